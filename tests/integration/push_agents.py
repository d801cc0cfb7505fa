"""An agent's push side alone: listener and intake over real sockets, before a queue in memory."""

import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import TypeVar

import anyio
import anyio.lowlevel

from tendril_rt.agent.intake import Intake
from tendril_rt.agent.slots import Slots
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control.listener import Listener, Timing
from tendril_rt.control.push import (
    Announced,
    Cause,
    Claimed,
    Kind,
    PushEvent,
    State,
    StateChanged,
)
from tendril_rt.model import (
    AgentId,
    ClaimId,
    ClusterId,
    Lease,
    Operation,
    Provision,
    ProvisionId,
    RealtimeToken,
)
from tendril_rt.settings import ControlSettings

from .phoenix_server import PhoenixServer

E = TypeVar("E", bound=PushEvent)

PATIENCE_S = 10.0  # this machine may be busy; what a test promises is asserted on its own
CLUSTER_ID = ClusterId("00000000-0000-4000-8000-00000000000a")
NO_POLL_S = 3600.0
BEAT_S = 0.3
FAST = Timing(
    connect=2.0,
    join=2.0,
    ready=2.0,
    sweep=0.05,
    heartbeat=0.2,
    heartbeat_reply=0.6,
    echo=0.4,
    announce=0.4,
    swap=0.1,
    cure_spacing=0.2,
    cure_spacing_max=1.0,
    refused=60.0,
    no_token=0.2,
    stable=0.5,
    spread=0.1,
    backoff=0.05,
    backoff_max=0.4,
    backoff_floor=0.01,
    rate_limit=0.5,
)


def control_settings(url: str) -> ControlSettings:
    return ControlSettings(url=url, api_key="anon", cluster_id=CLUSTER_ID, api_token="secret")


class PushAgent:
    """Claims what is queued, and notes why.

    :ivar beats: whether heartbeats go out and come back as pulses
    :ivar tokens: errors that the next requests for a token meet, None for a token
    """

    def __init__(
        self, server: PhoenixServer, url: str, *, timing: Timing, poll_s: float, token_life_s: float
    ) -> None:
        self._server = server
        self._token_life_s = token_life_s
        self._news = anyio.Event()
        self._waiting: list[tuple[str, float]] = []
        self._given: dict[ClaimId, Provision] = {}
        self._probes = Wakeup()
        self.events: list[PushEvent] = []
        self.tokens_given = 0
        self.token_errors: Sequence[Exception] = ()
        self.offers_tokens = True
        self.heeded = 0
        self.beats = True
        self.observer_raises = False
        self.intake = Intake(
            claim=self._claim,
            start=lambda _, __: None,
            slots=Slots(10_000),
            poll_interval_s=poll_s,
            on_claimed=self._note_claim,
        )
        self.listener = Listener(
            control_settings(url),
            fetch_token=self._fetch_token,
            wake=self.intake.wake,
            heed=self._heed,
            probe=self._probe,
            on_event=self._note,
            timing=timing,
        )

    # --- what the control plane would do --------------------------------------------------------

    async def queue(self, *, announce: bool = True) -> str:
        """Insert a provision."""
        name = str(uuid.uuid4())
        self._waiting.append((name, time.monotonic()))
        if announce:
            await self._server.insert(name)
        return name

    async def beat(self) -> None:
        """Send a heartbeat: its pulse comes before its answer."""
        sent_at = anyio.current_time()
        self.listener.beat_sent(sent_at)
        await self._server.broadcast("pulse")
        self.listener.beat_answered(sent_at)

    async def _claim(self, claim_id: ClaimId) -> Provision | None:
        if claim_id not in self._given and self._waiting:
            name, at = self._waiting.pop(0)
            lease = Lease(ProvisionId(name), 1, AgentId("a"))
            queued_s = time.monotonic() - at
            self._given[claim_id] = Provision(
                lease, CLUSTER_ID, Operation.PLAN, "s", "{}", None, queued_s=queued_s
            )
        await anyio.lowlevel.checkpoint()
        return self._given.get(claim_id)

    async def _fetch_token(self) -> RealtimeToken | None:
        await anyio.lowlevel.checkpoint()
        if self.token_errors:
            error, *self.token_errors = self.token_errors
            raise error
        if not self.offers_tokens:
            return None
        self.tokens_given += 1
        return RealtimeToken(f"token-{self.tokens_given}", self._token_life_s)

    # --- what is seen ---------------------------------------------------------------------------

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reasons(self) -> list[str]:
        """Return why sessions ended in a backoff."""
        return [change.reason for change in self.of(StateChanged) if change.state is State.BACKOFF]

    def cause_of(self, name: str) -> Cause | None:
        """Return why the claim was tried that took *name*, if one did."""
        causes = [claim.cause for claim in self.of(Claimed) if claim.provision_id == name]
        assert len(causes) < 2
        return causes[0] if causes else None

    async def until(self, is_so: Callable[[], object], *, within_s: float = PATIENCE_S) -> float:
        """Wait for something to be so after an event; return how many seconds it took."""
        began = time.monotonic()
        with anyio.move_on_after(within_s):
            while not is_so():
                self._news = anyio.Event()
                with anyio.move_on_after(0.05):  # some of it is the server's, which tells nobody
                    await self._news.wait()
        assert is_so(), "\n".join(f"{type(e).__name__}: {e}" for e in self.events[-30:])
        return time.monotonic() - began

    async def until_ready(self, *, within_s: float = PATIENCE_S) -> float:
        return await self.until(
            lambda: (
                self.listener.state is State.READY
                and self.listener.ready == self._server.behaviour.readies
            ),
            within_s=within_s,
        )

    async def is_claimed(self, name: str, *, within_s: float = PATIENCE_S) -> Cause:
        await self.until(lambda: self.cause_of(name), within_s=within_s)
        cause = self.cause_of(name)
        assert cause is not None
        return cause

    async def until_session_after(self, sessions: int) -> float:
        return await self.until(lambda: self.listener.sessions > sessions)

    async def hears(self) -> None:
        """Check that the next insert is heard, and claimed; nothing polls."""
        seen = len(self.events)
        name = await self.queue()
        await self.is_claimed(name)
        await self.until(
            lambda: any(
                isinstance(event, Announced) and event.kind is not Kind.PULSE
                for event in self.events[seen:]
            )
        )

    async def settle(self) -> None:
        """Let the sweeps that follow readiness pass, so that they claim nothing more."""
        await anyio.sleep(3 * FAST.sweep)

    def _note_claim(self, claim: Claimed) -> None:
        self.listener.claimed(claim)

    def _note(self, event: PushEvent) -> None:
        self.events.append(event)
        self._news.set()
        if self.observer_raises:
            raise RuntimeError("an observer that fails")

    def _heed(self) -> None:
        self.heeded += 1

    def _probe(self) -> None:
        self._probes.set()

    async def _beat_on(self) -> None:
        while True:
            await self._probes.wait(BEAT_S)
            if self.beats:
                await self.beat()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PushAgent"]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.intake.run)
            tasks.start_soon(self.listener.run)
            tasks.start_soon(self._beat_on)
            yield self
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def listening(
    server: PhoenixServer,
    *,
    url: str | None = None,
    timing: Timing = FAST,
    poll_s: float = NO_POLL_S,
    token_life_s: float = 3600.0,
) -> AsyncIterator[PushAgent]:
    """Run an agent's push side until the block ends."""
    agent = PushAgent(
        server, url or server.url, timing=timing, poll_s=poll_s, token_life_s=token_life_s
    )
    async with agent.running():
        yield agent


def open_sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(1 for fd in FilePath("/proc/self/fd").iterdir() if _target(fd).startswith("socket:"))


def _target(fd: FilePath) -> str:
    try:
        return str(fd.readlink())
    except OSError:  # the one that lists the folder
        return ""
