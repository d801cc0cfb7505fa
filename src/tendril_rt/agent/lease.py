"""Keeping the right to act: one heartbeat carries every lease; trust ends before a lease does.

Invariants: the agent trusts a lease until *send time of the last accepted heartbeat* + TTL - margin
on the monotonic clock, whatever any wall clock says. An apply begins only under a lease that was
confirmed a moment ago. Without trust, PREPARE and PLAN are stopped; an apply never is.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from typing import Protocol

import anyio

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import LeaseLost, Rejected, Unavailable
from tendril_rt.model import Cancel, HeartbeatAnswer, Lease, Phase
from tendril_rt.runner.attended import StopRequest

_MARGIN_S = 15.0  # for stopping a plan before the lease's end
_REGAIN_S = 15.0  # for a first heartbeat to say that a lease of before a crash is still ours
_RETRY_S = 5.0
_TRUST_CHECK_S = 1.0
_INITIAL_TTL_S = 90.0

_log = logging.getLogger(__name__)


class Interruption(Enum):
    """Why an attempt is to stop before its end."""

    CANCELLED = auto()  # the owner asked
    FENCED_OUT = auto()  # a newer attempt exists
    TRUST_ENDED = auto()  # no accepted heartbeat for too long, before APPLY
    SHUTDOWN = auto()  # this agent is told to end


class HeldLease:
    """One attempt's side of its lease.

    :ivar phase: what heartbeats say; APPLY is said before it begins
    :ivar confirmed_phase: the phase that the last heartbeat said which was answered *held*
    :ivar is_applying: the control plane confirmed APPLY: from here on trust no longer matters
    :ivar request: what is asked of the running step; :attr:`interruption` says why
    :ivar shutdown: set when the agent ends, also if another reason came before
    """

    def __init__(self, lease: Lease, trusted_until: float) -> None:
        self.lease = lease
        self.phase = Phase.PREPARE
        self.is_applying = False
        self.trusted_until = trusted_until
        self.confirmed_phase: Phase | None = None
        self.request = StopRequest()
        self.interruption: Interruption | None = None
        self.shutdown = anyio.Event()
        self.confirmed = Wakeup()

    @property
    def interrupt(self) -> anyio.Event:
        """Set when the attempt has to stop."""
        return self.request.interrupt

    def cancel(self, level: Cancel) -> None:
        """Do what the owner asked; answers repeat it, so any number of times."""
        if level is not Cancel.NONE:
            self.stop(Interruption.CANCELLED)
        if level is Cancel.FORCE:
            self.request.force.set()

    def stop(self, why: Interruption) -> None:
        """Ask the attempt to stop. The first reason stands, but being fenced out beats all."""
        if self.interruption is None or why is Interruption.FENCED_OUT:
            self.interruption = why
        if why is Interruption.SHUTDOWN:
            self.shutdown.set()
        self.interrupt.set()


class Beats(Protocol):
    """What sends a heartbeat."""

    async def __call__(self, leases: Mapping[Lease, Phase]) -> HeartbeatAnswer:
        """:raises Unavailable: no answer; :raises Rejected: refused"""


class LeaseKeeper:
    """Sends the heartbeats and tells each held lease what they answered.

    :param interval_s: between beats, in seconds
    :param on_drain: called with what each answer says about draining
    :param clock: monotonic seconds, for tests
    """

    def __init__(
        self,
        beat: Beats,
        *,
        interval_s: float,
        on_drain: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._on_drain = on_drain
        self._clock = clock
        self._held: dict[Lease, HeldLease] = {}
        self._due = Wakeup()
        self._taken = Wakeup()
        self._ttl_s = _INITIAL_TTL_S
        self._next_beat_at = float("-inf")

    @contextmanager
    def hold(self, lease: Lease, *, claimed_at: float | None) -> Iterator[HeldLease]:
        """Renew *lease* until the block ends.

        :param claimed_at: this clock's reading when the claim was sent; None for a lease of this
            agent's former life, which is trusted for a moment only unless a heartbeat confirms it
        """
        if claimed_at is None:
            held = HeldLease(lease, self._clock() + _REGAIN_S)
        else:
            held = HeldLease(lease, claimed_at + self._ttl_s - _MARGIN_S)
        self._held[lease] = held
        self._taken.set()
        try:
            yield held
        finally:
            del self._held[lease]

    async def confirm_apply(self, held: HeldLease) -> bool:
        """Announce APPLY and wait for the control plane to say that the lease is held.

        Return False when the attempt was interrupted first: it must not begin to apply.

        Cancellation: safe; the control plane may have noted APPLY.
        """
        held.phase = Phase.APPLY
        self.beat_soon()
        held.is_applying = await _until(held, lambda: held.confirmed_phase is Phase.APPLY)
        return held.is_applying

    async def confirm(self, held: HeldLease) -> bool:
        """Wait until a heartbeat says that the lease is held; False if interrupted first.

        Cancellation: safe.
        """
        return await _until(held, lambda: held.confirmed_phase is not None)

    def slept(self, slept_s: float) -> None:
        """Take from all trust the time that the machine slept, which no clock of ours counted."""
        for held in self._held.values():
            held.trusted_until -= slept_s
        self._end_trust()

    def beat_soon(self) -> None:
        """Send the next heartbeat at once, or as soon as the one under way is done."""
        self._next_beat_at = float("-inf")
        self._due.set()

    async def run(self) -> None:
        """Beat until cancelled.

        Failures are logged and tried again: running attempts outlive them by the rules above.
        """
        self._next_beat_at = self._clock() + self._interval_s
        async with anyio.create_task_group() as tasks:
            # Beside the beats: a heartbeat without an answer must not keep trust alive.
            tasks.start_soon(self._watch_trust)
            while True:
                await self._due.wait(max(0.0, self._next_beat_at - self._clock()))
                if self._clock() >= self._next_beat_at:
                    await self._beat_once()

    async def beat(self) -> None:
        """Send one heartbeat now and act on its answer.

        :raises Unavailable: no answer; nothing was concluded from it
        :raises Rejected: the control plane refuses this agent
        """
        sent_at = self._clock()
        listed = dict(self._held)
        phases = {lease: held.phase for lease, held in listed.items()}
        answer = await self._beat(phases)
        self._ttl_s = answer.lease_ttl_s
        self._on_drain(answer.drain)
        for lease, held in listed.items():
            state = answer.leases.get(lease.provision_id)
            if state is None:
                continue
            if not state.held:
                held.stop(Interruption.FENCED_OUT)
                continue
            held.trusted_until = sent_at + self._ttl_s - _MARGIN_S
            held.confirmed_phase = phases[lease]
            held.confirmed.set()
            held.cancel(state.cancel)

    async def _beat_once(self) -> None:
        self._next_beat_at = self._clock() + self._interval_s
        try:
            await self.beat()
        except LeaseLost as exc:
            _log.error("heartbeat: %s", exc)
        except (Unavailable, Rejected) as exc:
            _log.warning("heartbeat failed, next try in %.0f s: %s", _RETRY_S, exc)
            retry_at = self._clock() + min(_RETRY_S, self._interval_s)
            if self._next_beat_at > retry_at:  # unless somebody wants one at once
                self._next_beat_at = retry_at

    async def _watch_trust(self) -> None:
        """Look at the leases again and again; sleep while there is none, mostly that is."""
        while True:
            await self._taken.wait(_TRUST_CHECK_S if self._held else None)
            self._end_trust()

    def _end_trust(self) -> None:
        now = self._clock()
        for held in self._held.values():
            if not held.is_applying and held.trusted_until <= now:
                held.stop(Interruption.TRUST_ENDED)


async def _until(held: HeldLease, is_confirmed: Callable[[], bool]) -> bool:
    while not is_confirmed() and not held.interrupt.is_set():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_first, held.interrupt.wait, tasks.cancel_scope)
            tasks.start_soon(_first, held.confirmed.wait, tasks.cancel_scope)
    return not held.interrupt.is_set()


async def _first(wait: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await wait()
    scope.cancel()
