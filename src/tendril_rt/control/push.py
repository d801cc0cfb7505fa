"""The words of push: states, paths, causes, and everything that is told about them.

Pure. Each event is a frozen value with its log line (``str``) and level, so that the log, metrics
and ``tendril doctor`` all live off one hook, ``on_event``.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from tendril_rt.errors import TendrilError
from tendril_rt.model import ProvisionId

_TOO_MANY_REQUESTS = 429
_RATE_LIMITS = ("RateLimitReached", "TooMany", "Too many")

_log = logging.getLogger(__name__)


class State(StrEnum):
    """Where the listener stands. OFF: the project offers no token to listen with."""

    CONNECTING = "CONNECTING"
    JOINING = "JOINING"
    READY = "READY"  # at least one path is proven ready
    BACKOFF = "BACKOFF"
    OFF = "OFF"


class Path(StrEnum):
    """A way on which the control plane can announce something; they fail differently."""

    BROADCAST = "broadcast"  # sent by triggers; sooner, and of more than inserts
    CHANGES = "postgres_changes"  # inserts that Realtime's poller finds


class Kind(StrEnum):
    """What was announced."""

    WAKEUP = "wakeup"  # broadcast: something to claim, or news of a lease
    PULSE = "pulse"  # broadcast: the echo of an agent's heartbeat
    INSERT = "insert"  # postgres_changes: a provision was queued


class Cause(StrEnum):
    """Why a claim was tried."""

    START = "start"
    PUSH = "push"
    SWEEP = "sweep"  # something may have been missed: a join, a token swap, a suspend
    SLOT = "slot"  # one became free
    POLL = "poll"


class Cure(StrEnum):
    """What is tried when a path is deaf."""

    TOKEN = "a fresh token"  # noqa: S105 - a word for people
    SESSION = "a fresh session"


class SessionFailed(TendrilError):
    """A session cannot be had, or be trusted any more.

    :param status: of the HTTP answer to a handshake that was refused
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.is_rate_limit = status == _TOO_MANY_REQUESTS or any(
            sign in message for sign in _RATE_LIMITS
        )


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The listener went on.

    :ivar reason: why, where there is something to say
    :ivar session: number of the session, counted from 1
    :ivar delay_s: until the next try, in BACKOFF and OFF
    """

    state: State
    reason: str
    session: int
    delay_s: float = 0.0

    @property
    def level(self) -> int:
        if self.state in (State.BACKOFF, State.OFF):
            return logging.WARNING
        return logging.INFO if self.state is State.READY else logging.DEBUG

    def __str__(self) -> str:
        text = f"{self.state.value}{': ' if self.reason else ''}{self.reason}"
        if self.delay_s:
            text += f"; polling goes on, next try in {self.delay_s:.1f} s"
        return text


@dataclass(frozen=True, slots=True)
class PathReady:
    """The server said that *path* delivers from now on, *after_s* seconds after the join."""

    path: Path
    after_s: float

    level = logging.INFO

    def __str__(self) -> str:
        return f"{self.path.value} is ready after {self.after_s:.1f} s"


@dataclass(frozen=True, slots=True)
class PathRefused:
    """The project does not offer *path*; sessions do without it for *retry_in_s* seconds.

    :ivar again: it was refused before, so people know already
    """

    path: Path
    reason: str
    retry_in_s: float
    again: bool

    @property
    def level(self) -> int:
        return logging.DEBUG if self.again else logging.WARNING

    def __str__(self) -> str:
        return (
            f"{self.path.value} is not offered ({self.reason}); going on without it, "
            f"asking again in {self.retry_in_s:.0f} s"
        )


@dataclass(frozen=True, slots=True)
class Announced:
    """Something was heard.

    :ivar provision_id: of an insert, for judging and measuring only; claims never rely on it
    :ivar latency_s: since the commit by the clocks of both machines (insert), or since our own
        heartbeat was sent (pulse, by the monotonic clock); None where unknown
    """

    path: Path
    kind: Kind
    provision_id: ProvisionId | None = None
    latency_s: float | None = None

    level = logging.DEBUG

    def __str__(self) -> str:
        after = "" if self.latency_s is None else f" after {self.latency_s * 1000:.0f} ms"
        return f"{self.kind.value} by {self.path.value}{after}"


@dataclass(frozen=True, slots=True)
class PushMissed:
    """*path* should have said *what*, and did not."""

    path: Path
    what: str

    level = logging.INFO

    def __str__(self) -> str:
        return f"{self.path.value} did not bring {self.what}"


@dataclass(frozen=True, slots=True)
class PathDeaf:
    """*path* calls itself ready and delivers nothing, or never got ready."""

    path: Path

    level = logging.WARNING

    def __str__(self) -> str:
        return f"{self.path.value} is deaf; polling goes on"


@dataclass(frozen=True, slots=True)
class CureTried:
    """A deaf path is kicked, for the *count*-th time."""

    path: Path
    cure: Cure
    count: int

    level = logging.INFO

    def __str__(self) -> str:
        return f"{self.path.value} gets {self.cure.value} (try {self.count})"


@dataclass(frozen=True, slots=True)
class PathHealed:
    """A deaf path was heard again, after so many cures."""

    path: Path
    cures: int

    level = logging.INFO

    def __str__(self) -> str:
        return f"{self.path.value} is heard again"


@dataclass(frozen=True, slots=True)
class TokenRenewed:
    """The session goes on under a fresh token."""

    expires_in_s: float

    level = logging.DEBUG

    def __str__(self) -> str:
        return f"token renewed for {self.expires_in_s:.0f} s"


@dataclass(frozen=True, slots=True)
class TokenNotRenewed:
    """The session goes on under the old token, which expires in *expires_in_s* seconds."""

    reason: str
    expires_in_s: float
    retry_in_s: float

    level = logging.WARNING

    def __str__(self) -> str:
        return (
            f"token not renewed, next try in {self.retry_in_s:.1f} s, it expires in "
            f"{self.expires_in_s:.0f} s: {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim took a provision.

    :ivar cause: what the claim was tried for
    :ivar sent_at: monotonic time at which the claim was sent
    :ivar queued_s: how long it had waited, on the control plane's clock; None where unknown
    """

    provision_id: ProvisionId
    attempt: int
    cause: Cause
    sent_at: float
    queued_s: float | None

    level = logging.DEBUG

    def __str__(self) -> str:
        return f"provision {self.provision_id} was claimed for {self.cause.value}"


PushEvent: TypeAlias = (
    StateChanged
    | PathReady
    | PathRefused
    | Announced
    | PushMissed
    | PathDeaf
    | CureTried
    | PathHealed
    | TokenRenewed
    | TokenNotRenewed
    | Claimed
)
OnEvent: TypeAlias = Callable[[PushEvent], None]


def log_event(event: PushEvent) -> None:
    """Write *event* into the log: the hook where there is no other."""
    _log.log(event.level, "realtime: %s", event)
