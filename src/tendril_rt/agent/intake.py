"""From hints to claims: push and poll are coalesced into one "try to claim".

A hint carries nothing but why it was given, for the record; the claim RPC is the truth. The first
claim follows a hint at once: nothing is waited for, collected or spread. Claims only while a slot
is free and the agent is not draining, and goes on while both hold and the queue is not empty. After
each claimed provision it takes a breath of 50 ms: what has just begun shares this event loop, and
the second announcement of the same insert comes meanwhile and costs no claim of its own. Polls
every 5 s ± 20 % whatever push says.
"""

import logging
import random
import uuid
from collections.abc import Awaitable, Callable

import anyio

from tendril_rt.agent.slots import Slots
from tendril_rt.aio.backoff import Backoff
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control.push import Cause, Claimed
from tendril_rt.errors import Rejected, Unavailable
from tendril_rt.model import ClaimId, Provision

_JITTER = 0.2
BREATH_S = 0.05

_log = logging.getLogger(__name__)


class Intake:
    """Claims until told to stop.

    :param claim: takes the next provision; must answer the same for the same claim id
    :param start: takes over a claimed provision and gives its slot back at its end; the number is
        the clock's reading when the claim was sent
    :param poll_interval_s: between polls, in seconds
    :param has_room: asked before each claim; while False, nothing is claimed until a later poll
    :param on_claimed: told of each provision that was taken, and of what the claim was tried for
    """

    def __init__(
        self,
        *,
        claim: Callable[[ClaimId], Awaitable[Provision | None]],
        start: Callable[[Provision, float], None],
        slots: Slots,
        poll_interval_s: float,
        has_room: Callable[[], bool] = lambda: True,
        on_claimed: Callable[[Claimed], None] = lambda _: None,
    ) -> None:
        self._claim = claim
        self._start = start
        self._slots = slots
        self._poll_interval_s = poll_interval_s
        self._has_room = has_room
        self._on_claimed = on_claimed
        self._backoff = Backoff(0.5, 30.0)
        self._unanswered: ClaimId | None = None
        self._hint = Wakeup()
        self._cause: Cause | None = Cause.START
        self.is_draining = False
        self.is_paused = False

    def wake(self, cause: Cause) -> None:
        """Claim now, or after the claim that is under way. Never raises, never blocks.

        Of several causes the first stands, but push beats the others.
        """
        if self._cause is None or cause is Cause.PUSH:
            self._cause = cause
        self._hint.set()

    def drain(self) -> None:
        """Claim nothing more, for good."""
        self.is_draining = True
        self._hint.set()

    def pause(self, paused: bool) -> None:
        """Claim nothing while the owner has the cluster drained."""
        was_paused, self.is_paused = self.is_paused, paused
        if was_paused and not paused:
            self.wake(Cause.SWEEP)

    async def run(self) -> None:
        """Claim until :meth:`drain`.

        Cancellation: safe; an unanswered claim is requeued by the control plane.
        """
        while not self.is_draining:
            cause, self._cause = self._cause or Cause.POLL, None
            delay_s = await self._sweep(cause)
            if not self.is_draining:
                await self._hint.wait(delay_s)

    async def _sweep(self, cause: Cause) -> float:
        """Claim while there is something and room; return the seconds until the next poll."""
        while self._may_claim():
            # The same id again after a lost answer: the control plane repeats what it gave.
            is_repeated = self._unanswered is not None
            claim_id = self._unanswered or ClaimId(str(uuid.uuid4()))
            self._unanswered = claim_id
            sent_at = anyio.current_time()
            try:
                provision = await self._claim(claim_id)
            except (Unavailable, Rejected) as exc:
                delay_s = max(self._poll_delay_s(), self._backoff.next_s())
                _log.warning("cannot claim, next try in %.1f s: %s", delay_s, exc)
                return delay_s
            self._unanswered = None
            self._backoff.reset()
            if provision is None:
                break
            self._slots.take()
            self._start(provision, sent_at)
            lease = provision.lease
            # A repeated claim may answer what was taken when it was sent first: who knows when?
            queued_s = None if is_repeated else provision.queued_s
            self._on_claimed(Claimed(lease.provision_id, lease.attempt, cause, sent_at, queued_s))
            await anyio.sleep(BREATH_S)
            self._hint.clear()  # the claim that follows answers all hints until now
            cause, self._cause = self._cause or cause, None
        return self._poll_delay_s()

    def _may_claim(self) -> bool:
        is_wanted = not self.is_draining and not self.is_paused
        return is_wanted and self._slots.has_free and self._has_room()

    def _poll_delay_s(self) -> float:
        return self._poll_interval_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
