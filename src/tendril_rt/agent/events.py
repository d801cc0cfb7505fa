"""What happens in an agent, as typed events: one hook feeds metrics, readiness and tests.

Whoever notices something calls the agent's one ``on_event`` with a frozen value. Listening is
cheap, synchronous and must not raise. What the listener and intake tell is in ``control/push.py``.
Pure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tendril_rt.model import Lease, Status


class RpcResult(StrEnum):
    """How a call to the control plane ended."""

    OK = "ok"
    UNAVAILABLE = "unavailable"  # no answer, 5xx, or not the control plane: tried again
    UNAUTHORIZED = "unauthorized"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class RpcEnded:
    """One call to the control plane ended.

    :ivar rpc: the method of the client, such as ``heartbeat``
    """

    rpc: str
    result: RpcResult
    duration_s: float


@dataclass(frozen=True, slots=True)
class LogDelivered:
    """The control plane took chunks of an attempt's log."""

    chunks: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step of an attempt ended.

    :ivar step: ``init``, ``plan``, ``apply``: a word of our own, never the template's
    """

    step: str
    exit_code: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """A claimed provision begins to run; :class:`control.push.Claimed` says what led to it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt has ended.

    :ivar status: what was reported, or None: it was left to the control plane
    """

    lease: Lease
    status: Status | None


@dataclass(frozen=True, slots=True)
class LogLost:
    """Bytes of an attempt's log were cut by a cap of the spool."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Draining:
    """The agent claims nothing any more."""


#: Takes any event, those above and those of push; ignores what it does not know.
Observe = Callable[[object], None]


def ignore(event: object) -> None:
    """Observe nothing."""
