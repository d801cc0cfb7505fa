"""Push and poll become claims: while there is room, at once, and never more than needed."""

from itertools import pairwise

import anyio
import pytest

from tendril_rt.agent.intake import BREATH_S, Intake
from tendril_rt.agent.slots import Slots
from tendril_rt.control.push import Cause, Claimed
from tendril_rt.errors import Rejected, TendrilError, Unavailable
from tendril_rt.model import (
    AgentId,
    ClaimId,
    ClusterId,
    Lease,
    Operation,
    Provision,
    ProvisionId,
)
from tests.unit.virtual_time import in_virtual_time

START = 1_000.0  # where virtual time begins
POLL_S = 5.0


def provision(name: str) -> Provision:
    return Provision(
        Lease(ProvisionId(name), 1, AgentId("a")), ClusterId("c"), Operation.PLAN, "s", "{}", None,
        queued_s=0.25,
    )  # fmt: skip


class Queue:
    """A queue that answers the same for the same claim id.

    :ivar errors: what the next claims meet, None for an answer; a provision is taken all the same
    """

    def __init__(self, *names: str, capacity: int = 10) -> None:
        self.waiting = [provision(name) for name in names]
        self.claims: list[tuple[float, ClaimId]] = []
        self.started: list[tuple[str, float]] = []
        self.claimed: list[Claimed] = []
        self.errors: list[TendrilError | None] = []
        self.latency_s = 0.0
        self.slots = Slots(capacity)
        self._given: dict[ClaimId, Provision] = {}
        self.intake = Intake(
            claim=self.claim,
            start=self.start,
            slots=self.slots,
            poll_interval_s=POLL_S,
            on_claimed=self.claimed.append,
        )

    async def claim(self, claim_id: ClaimId) -> Provision | None:
        self.claims.append((anyio.current_time(), claim_id))
        if claim_id not in self._given and self.waiting:
            self._given[claim_id] = self.waiting.pop(0)
        await anyio.sleep(self.latency_s)
        error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return self._given.get(claim_id)

    def start(self, claimed: Provision, claimed_at: float) -> None:
        self.started.append((claimed.lease.provision_id, claimed_at))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.started]

    @property
    def times(self) -> list[float]:
        """Return when claims were sent, in seconds since the start."""
        return [at - START for at, _ in self.claims]

    async def run_for(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.intake.run()


@in_virtual_time
async def test_it_claims_as_soon_as_it_runs() -> None:
    queue = Queue("p1")
    await queue.run_for(1)
    assert queue.started == [("p1", START)]


@in_virtual_time
async def test_a_queue_is_emptied_without_waiting_for_the_next_poll() -> None:
    names = [f"p{number}" for number in range(20)]
    queue = Queue(*names, capacity=20)
    await queue.run_for(1)
    assert queue.names == names


@in_virtual_time
async def test_it_takes_no_more_than_there_are_slots() -> None:
    queue = Queue("p1", "p2", "p3", capacity=2)
    await queue.run_for(60)
    assert queue.names == ["p1", "p2"]
    assert len(queue.claims) == 2
    assert queue.slots.used == 2


@in_virtual_time
async def test_a_slot_that_becomes_free_is_filled_at_the_wakeup() -> None:
    queue = Queue("p1", "p2", capacity=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(0.5)
        queue.slots.give_back()
        queue.intake.wake(Cause.PUSH)
        await anyio.sleep(0.01)
        assert queue.names == ["p1", "p2"]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_polls_are_five_seconds_apart_more_or_less_and_not_in_step() -> None:
    queue = Queue()
    await queue.run_for(500)
    gaps = [later - earlier for earlier, later in pairwise(queue.times)]
    assert all(4.0 <= gap <= 6.0 for gap in gaps)
    assert len(set(gaps)) > 1
    assert 80 <= len(gaps) <= 125


@in_virtual_time
async def test_a_wakeup_claims_at_once_and_many_count_as_one() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.waiting.append(provision("pushed"))
        for _ in range(5):
            queue.intake.wake(Cause.PUSH)
        await anyio.sleep(1)
        assert queue.started == [("pushed", START + 1)]
        # At the start, the pushed one, and "nothing more".
        assert queue.times == pytest.approx([0, 1, 1 + BREATH_S])
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_second_announcement_within_a_breath_costs_no_claim() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.waiting.append(provision("first"))
        queue.intake.wake(Cause.PUSH)
        await anyio.sleep(BREATH_S / 2)
        queue.waiting.append(provision("second"))
        queue.intake.wake(Cause.PUSH)
        await anyio.sleep(1)
        assert queue.times == pytest.approx([0, 1, 1 + BREATH_S, 1 + 2 * BREATH_S])
        assert [claimed.cause for claimed in queue.claimed] == [Cause.PUSH, Cause.PUSH]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_drain_within_a_breath_is_the_end() -> None:
    queue = Queue("p1", "p2")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(BREATH_S / 2)
        queue.intake.drain()
    assert queue.names == ["p1"]
    assert anyio.current_time() - START == pytest.approx(BREATH_S)


@in_virtual_time
async def test_a_wakeup_during_a_claim_is_not_lost() -> None:
    queue = Queue()
    queue.latency_s = 1
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(0.5)  # the first claim has already looked, and found nothing
        queue.waiting.append(provision("late"))
        queue.intake.wake(Cause.PUSH)
        await anyio.sleep(2)
        assert queue.started == [("late", START + 1)]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_trust_is_told_when_the_claim_was_sent_and_not_when_it_was_answered() -> None:
    queue = Queue("p1")
    queue.latency_s = 3
    await queue.run_for(4)
    assert queue.started == [("p1", START)]


@in_virtual_time
async def test_a_lost_answer_is_asked_for_again_by_the_same_claim_id() -> None:
    queue = Queue("p1", "p2")
    queue.errors = [Unavailable("timed out"), Unavailable("timed out")]
    await queue.run_for(100)
    assert queue.names == ["p1", "p2"]
    ids = [claim_id for _, claim_id in queue.claims]
    assert ids[0] == ids[1] == ids[2]
    assert ids[3] != ids[2]


@in_virtual_time
async def test_every_answered_claim_has_an_id_of_its_own() -> None:
    queue = Queue("p1", "p2", "p3")
    await queue.run_for(100)
    ids = [claim_id for _, claim_id in queue.claims]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("error", [Unavailable("503"), Rejected("not you")])
@in_virtual_time
async def test_failures_are_tried_again_and_never_faster_than_polls(error: TendrilError) -> None:
    queue = Queue("p1")
    queue.errors = [error] * 30
    await queue.run_for(3600)
    assert queue.names == ["p1"]
    gaps = [later - earlier for earlier, later in pairwise(queue.times[:30])]
    assert all(4.0 <= gap <= 30.0 for gap in gaps)
    assert max(gaps) > 6.0


@in_virtual_time
async def test_an_answer_ends_the_growth_of_the_delays() -> None:
    queue = Queue()
    down = Unavailable("503")
    queue.errors = [*[down] * 10, *[None, down] * 10]
    await queue.run_for(3600)
    after_success = queue.times[11:31]
    assert all(later - earlier <= 6.0 for earlier, later in pairwise(after_success))


@in_virtual_time
async def test_a_paused_intake_claims_nothing_until_it_goes_on() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.intake.pause(True)
        queue.waiting.append(provision("p1"))
        queue.intake.wake(Cause.PUSH)
        await anyio.sleep(60)
        assert queue.times == [0]
        queue.intake.pause(False)
        await anyio.sleep(0.01)
        assert queue.started == [("p1", START + 61)]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_being_told_again_not_to_pause_is_no_reason_to_claim() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.intake.pause(False)
        await anyio.sleep(1)
        assert queue.times == [0]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_draining_intake_ends_at_once() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.intake.drain()
    assert anyio.current_time() == START + 1
    assert queue.times == [0]


@in_virtual_time
async def test_what_was_claimed_while_draining_began_is_still_run() -> None:
    queue = Queue("p1", "p2")
    queue.latency_s = 2
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.intake.drain()
    assert queue.names == ["p1"]
    assert len(queue.claims) == 1


@in_virtual_time
async def test_drained_before_it_ran_it_claims_nothing() -> None:
    queue = Queue("p1")
    queue.intake.drain()
    await queue.intake.run()
    assert queue.claims == []


@in_virtual_time
async def test_without_room_nothing_is_claimed_until_a_poll_finds_some() -> None:
    queue = Queue("p1", "p2", "p3")
    room = [True, False, False, True]  # and then always
    queue.intake = Intake(
        claim=queue.claim,
        start=queue.start,
        slots=queue.slots,
        poll_interval_s=POLL_S,
        has_room=lambda: not room or room.pop(0),
    )

    await queue.run_for(1)
    assert queue.names == ["p1"]
    await queue.run_for(3 * POLL_S)
    assert queue.names == ["p1", "p2", "p3"]


# --- why it was claimed ---------------------------------------------------------------------------


@in_virtual_time
async def test_the_first_claim_and_all_that_follow_it_at_once_are_told_with_their_cause() -> None:
    queue = Queue("p1", "p2")
    await queue.run_for(1)
    assert [(claim.provision_id, claim.cause) for claim in queue.claimed] == [
        ("p1", Cause.START),
        ("p2", Cause.START),
    ]
    assert {claim.attempt for claim in queue.claimed} == {1}


@pytest.mark.parametrize("cause", [Cause.PUSH, Cause.SWEEP, Cause.SLOT])
@in_virtual_time
async def test_a_claim_is_told_with_the_hint_that_it_followed(cause: Cause) -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.waiting.append(provision("p1"))
        queue.intake.wake(cause)
        await anyio.sleep(1)
        assert [claim.cause for claim in queue.claimed] == [cause]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_what_no_hint_announced_was_found_by_the_poll() -> None:
    queue = Queue()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.intake.run)
        await anyio.sleep(1)
        queue.intake.wake(Cause.PUSH)  # nothing there: the hint is used up
        await anyio.sleep(1)
        queue.waiting.append(provision("p1"))
        await anyio.sleep(7)
        assert [claim.cause for claim in queue.claimed] == [Cause.POLL]
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_push_beats_the_other_causes_and_of_those_the_first_stands() -> None:
    for hints, expected in (
        ((Cause.SWEEP, Cause.PUSH), Cause.PUSH),
        ((Cause.PUSH, Cause.SWEEP), Cause.PUSH),
        ((Cause.SLOT, Cause.SWEEP), Cause.SLOT),
    ):
        queue = Queue()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(queue.intake.run)
            await anyio.sleep(1)
            queue.waiting.append(provision("p1"))
            for hint in hints:
                queue.intake.wake(hint)
            await anyio.sleep(1)
            assert [claim.cause for claim in queue.claimed] == [expected]
            tasks.cancel_scope.cancel()


@in_virtual_time
async def test_how_long_it_waited_is_told_unless_the_claim_was_repeated() -> None:
    queue = Queue("p1", "p2")
    queue.errors = [None, Unavailable("timed out")]
    await queue.run_for(60)
    assert [claim.queued_s for claim in queue.claimed] == [0.25, None]
