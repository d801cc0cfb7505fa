"""Heartbeats, trust and the gate before an apply."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from tendril_rt.agent.lease import HeldLease, Interruption, LeaseKeeper
from tendril_rt.errors import LeaseLost, Rejected, TendrilError, Unavailable
from tendril_rt.model import (
    AgentId,
    Cancel,
    HeartbeatAnswer,
    Lease,
    LeaseState,
    Phase,
    ProvisionId,
)
from tests.unit.virtual_time import in_virtual_time

START = 1_000.0  # where virtual time begins
TTL_S = 90.0
TRUST_S = 75.0  # the TTL less the margin for stopping a plan
INTERVAL_S = 30.0

ONE = Lease(ProvisionId("p1"), 1, AgentId("a"))
TWO = Lease(ProvisionId("p2"), 3, AgentId("a"))
HELD = LeaseState(held=True, cancel=Cancel.NONE)
SUPERSEDED = LeaseState(held=False, cancel=Cancel.NONE)


class Plane:
    """A control plane that holds every lease, unless told otherwise.

    :ivar errors: what the next beats meet instead of an answer
    :ivar error: what every beat meets
    :ivar states: what is said of a provision; None leaves it out of the answer
    :ivar latency_s: between the beat and its answer
    """

    def __init__(self) -> None:
        self.beats: list[tuple[float, dict[ProvisionId, Phase]]] = []
        self.errors: list[TendrilError] = []
        self.error: TendrilError | None = None
        self.states: dict[ProvisionId, LeaseState | None] = {}
        self.latency_s = 0.0
        self.ttl_s = TTL_S
        self.drain = False

    async def __call__(self, leases: Mapping[Lease, Phase]) -> HeartbeatAnswer:
        self.beats.append(
            (anyio.current_time(), {lease.provision_id: phase for lease, phase in leases.items()})
        )
        error = self.errors.pop(0) if self.errors else self.error
        await anyio.sleep(self.latency_s)
        if error:
            raise error
        states = {lease.provision_id: HELD for lease in leases} | self.states
        return HeartbeatAnswer(
            {provision: state for provision, state in states.items() if state},
            drain=self.drain,
            lease_ttl_s=self.ttl_s,
        )

    @property
    def times(self) -> list[float]:
        """Return when beats were sent, in seconds since the start."""
        return [at - START for at, _ in self.beats]


def keeper_of(plane: Plane) -> LeaseKeeper:
    return LeaseKeeper(plane, interval_s=INTERVAL_S)


@asynccontextmanager
async def beating(plane: Plane) -> AsyncIterator[LeaseKeeper]:
    """Run a keeper until the block ends."""
    keeper = keeper_of(plane)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        await anyio.lowlevel.checkpoint()  # lets it begin
        yield keeper
        tasks.cancel_scope.cancel()


async def interrupted_at(held: HeldLease) -> float:
    """Wait for the interruption; return when it came, in seconds since the start."""
    await held.interrupt.wait()
    return anyio.current_time() - START


# --- heartbeats -----------------------------------------------------------------------------------


@in_virtual_time
async def test_one_beat_an_interval_carries_every_lease_with_its_phase() -> None:
    plane = Plane()
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START), keeper.hold(TWO, claimed_at=START) as second:
            await anyio.sleep(45)
            second.phase = Phase.PLAN
            await anyio.sleep(20)
        await anyio.sleep(30)
    assert plane.beats == [
        (START + 30, {ONE.provision_id: Phase.PREPARE, TWO.provision_id: Phase.PREPARE}),
        (START + 60, {ONE.provision_id: Phase.PREPARE, TWO.provision_id: Phase.PLAN}),
        (START + 90, {}),
    ]


@pytest.mark.parametrize("error", [Unavailable("503"), Rejected("no")])
@in_virtual_time
async def test_a_failed_beat_is_tried_again_soon(error: TendrilError) -> None:
    plane = Plane()
    plane.errors = [error, error]
    async with beating(plane):
        await anyio.sleep(75)
    assert plane.times == [30, 35, 40, 70]


@in_virtual_time
async def test_a_lost_lease_does_not_end_the_beating() -> None:
    plane = Plane()
    plane.errors = [LeaseLost("a newer attempt")]
    async with beating(plane):
        await anyio.sleep(65)
    assert plane.times == [30, 60]


@in_virtual_time
async def test_slow_answers_do_not_pile_up_beats() -> None:
    plane = Plane()
    plane.latency_s = 8
    async with beating(plane):
        await anyio.sleep(300)
    assert all(later - earlier >= INTERVAL_S for earlier, later in pairwise(plane.times))
    assert len(plane.times) >= 9


@in_virtual_time
async def test_every_answer_says_whether_to_drain() -> None:
    plane, said = Plane(), list[bool]()
    keeper = LeaseKeeper(plane, interval_s=INTERVAL_S, on_drain=said.append)
    await keeper.beat()
    plane.drain = True
    await keeper.beat()
    assert said == [False, True]


@in_virtual_time
async def test_a_beat_that_fails_reaches_whoever_asked_for_it() -> None:
    plane = Plane()
    plane.error = Unavailable("no answer")
    with pytest.raises(Unavailable):
        await keeper_of(plane).beat()


@in_virtual_time
async def test_without_a_lease_it_wakes_for_its_beats_alone() -> None:
    plane, looks = Plane(), list[float]()

    def clock() -> float:
        looks.append(anyio.current_time())
        return looks[-1]

    keeper = LeaseKeeper(plane, interval_s=INTERVAL_S, clock=clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        await anyio.sleep(10 * INTERVAL_S + 1)
        tasks.cancel_scope.cancel()
    assert set(looks) == {START} | {at for at, _ in plane.beats}


# --- trust ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_trust_counts_from_the_sending_of_a_beat_and_not_from_its_answer() -> None:
    plane = Plane()
    plane.latency_s = 9
    keeper = keeper_of(plane)
    with keeper.hold(ONE, claimed_at=START) as held:
        await anyio.sleep(20)
        await keeper.beat()
        assert held.trusted_until == START + 20 + TRUST_S


@in_virtual_time
async def test_a_claim_is_trusted_from_when_it_was_sent() -> None:
    with keeper_of(Plane()).hold(ONE, claimed_at=START - 7) as held:
        assert held.trusted_until == START - 7 + TRUST_S


@in_virtual_time
async def test_the_control_plane_says_how_long_a_lease_lives() -> None:
    plane = Plane()
    plane.ttl_s = 40
    keeper = keeper_of(plane)
    with keeper.hold(ONE, claimed_at=START) as held:
        await keeper.beat()
        assert held.trusted_until == START + 40 - (TTL_S - TRUST_S)
        with keeper.hold(TWO, claimed_at=START) as later:
            assert later.trusted_until == held.trusted_until


@pytest.mark.parametrize("phase", [Phase.PREPARE, Phase.PLAN])
@in_virtual_time
async def test_without_accepted_beats_an_attempt_stops_before_its_lease_ends(phase: Phase) -> None:
    plane = Plane()
    plane.error = Unavailable("the network is gone")
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START) as held:
            held.phase = phase
            assert await interrupted_at(held) == pytest.approx(TRUST_S)
            assert held.interruption is Interruption.TRUST_ENDED


@in_virtual_time
async def test_a_beat_that_is_never_answered_does_not_prolong_trust() -> None:
    plane = Plane()
    plane.latency_s = 60
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START) as held:
            plane.error = Unavailable("timed out")
            stopped_at = await interrupted_at(held)
    assert stopped_at < TTL_S


@in_virtual_time
async def test_a_beat_that_gets_through_in_time_keeps_the_attempt_going() -> None:
    plane = Plane()
    plane.errors = [Unavailable("503") for _ in range(7)]
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START) as held:
            await anyio.sleep(500)
            assert not held.interrupt.is_set()


@in_virtual_time
async def test_an_apply_outlives_any_outage() -> None:
    plane = Plane()
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START) as held:
            assert await keeper.confirm_apply(held)
            plane.error = Unavailable("the network is gone")
            await anyio.sleep(6 * 3600)
            assert not held.interrupt.is_set()


@in_virtual_time
async def test_a_lease_that_an_answer_does_not_mention_is_neither_renewed_nor_lost() -> None:
    plane = Plane()
    plane.states = {ONE.provision_id: None}
    keeper = keeper_of(plane)
    with keeper.hold(ONE, claimed_at=START) as held:
        await anyio.sleep(10)
        await keeper.beat()
        assert held.trusted_until == START + TRUST_S
        assert not held.interrupt.is_set()


@in_virtual_time
async def test_an_answer_that_comes_after_the_end_of_an_attempt_harms_nobody() -> None:
    plane = Plane()
    plane.latency_s = 5
    plane.states = {ONE.provision_id: SUPERSEDED}
    keeper = keeper_of(plane)
    async with anyio.create_task_group() as tasks:
        with keeper.hold(ONE, claimed_at=START):
            tasks.start_soon(keeper.beat)
            await anyio.sleep(1)
        with keeper.hold(TWO, claimed_at=START) as other:
            await anyio.sleep(10)
            assert not other.interrupt.is_set()


@in_virtual_time
async def test_an_answer_about_an_earlier_attempt_does_not_touch_the_next_one() -> None:
    plane = Plane()
    plane.latency_s = 5
    plane.states = {ONE.provision_id: SUPERSEDED}
    keeper = keeper_of(plane)
    async with anyio.create_task_group() as tasks:
        with keeper.hold(ONE, claimed_at=START):
            tasks.start_soon(keeper.beat)
            await anyio.sleep(1)
        newer = Lease(ONE.provision_id, ONE.attempt + 1, ONE.agent_id)
        with keeper.hold(newer, claimed_at=START + 1) as held:
            await anyio.sleep(10)
            assert not held.interrupt.is_set()


# --- interruptions --------------------------------------------------------------------------------


@in_virtual_time
async def test_a_lease_that_is_not_held_fences_the_attempt_out() -> None:
    plane = Plane()
    plane.states = {ONE.provision_id: SUPERSEDED}
    keeper = keeper_of(plane)
    with keeper.hold(ONE, claimed_at=START) as held, keeper.hold(TWO, claimed_at=START) as other:
        await keeper.beat()
        assert held.interruption is Interruption.FENCED_OUT
        assert held.interrupt.is_set()
        assert not other.interrupt.is_set()


@in_virtual_time
async def test_even_an_apply_is_fenced_out() -> None:
    plane = Plane()
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START) as held:
            assert await keeper.confirm_apply(held)
            plane.states = {ONE.provision_id: SUPERSEDED}
            await held.interrupt.wait()
            assert held.interruption is Interruption.FENCED_OUT


def test_a_forced_cancel_is_heard_however_often_the_answers_repeat_it() -> None:
    held = HeldLease(ONE, START)
    held.cancel(Cancel.NONE)
    assert not held.interrupt.is_set()

    for _ in range(3):
        held.cancel(Cancel.GRACEFUL)
    assert (held.interrupt.is_set(), held.request.force.is_set()) == (True, False)
    for _ in range(3):
        held.cancel(Cancel.FORCE)
        held.cancel(Cancel.GRACEFUL)

    assert held.request.force.is_set()
    assert held.interruption is Interruption.CANCELLED


def test_force_alone_interrupts_too() -> None:
    held = HeldLease(ONE, START)
    held.cancel(Cancel.FORCE)

    assert held.interrupt.is_set()
    assert held.request.force.is_set()


def test_a_shutdown_forces_nothing() -> None:
    held = HeldLease(ONE, START)
    held.stop(Interruption.SHUTDOWN)

    assert not held.request.force.is_set()


@pytest.mark.parametrize("asked", [Cancel.GRACEFUL, Cancel.FORCE])
@in_virtual_time
async def test_the_owner_may_cancel_by_the_answer_to_a_beat(asked: Cancel) -> None:
    plane = Plane()
    plane.states = {ONE.provision_id: LeaseState(held=True, cancel=asked)}
    keeper = keeper_of(plane)
    with keeper.hold(ONE, claimed_at=START) as held:
        await keeper.beat()
        assert held.interruption is Interruption.CANCELLED


@pytest.mark.parametrize(
    "first", [Interruption.CANCELLED, Interruption.TRUST_ENDED, Interruption.SHUTDOWN]
)
@in_virtual_time
async def test_the_first_reason_stands_but_being_fenced_out_beats_all(first: Interruption) -> None:
    held = HeldLease(ONE, START)
    held.stop(first)
    held.stop(Interruption.SHUTDOWN)
    assert held.interruption is first
    held.stop(Interruption.FENCED_OUT)
    held.stop(Interruption.CANCELLED)
    assert held.interruption is Interruption.FENCED_OUT


@pytest.mark.parametrize("first", [Interruption.CANCELLED, Interruption.TRUST_ENDED])
@in_virtual_time
async def test_the_agents_end_is_noticed_after_another_reason(first: Interruption) -> None:
    held = HeldLease(ONE, START)
    held.stop(first)
    assert not held.shutdown.is_set()
    held.stop(Interruption.SHUTDOWN)
    assert held.shutdown.is_set()


# --- the gate before an apply ---------------------------------------------------------------------


@in_virtual_time
async def test_an_apply_is_announced_at_once_and_begins_when_it_is_confirmed() -> None:
    plane = Plane()
    plane.latency_s = 2
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            await anyio.sleep(10)
            assert not held.is_applying
            assert await keeper.confirm_apply(held)
            assert held.is_applying
            assert anyio.current_time() == START + 12
    assert plane.beats == [(START + 10, {ONE.provision_id: Phase.APPLY})]


@in_virtual_time
async def test_the_answer_to_an_earlier_beat_confirms_nothing() -> None:
    plane = Plane()
    plane.latency_s = 4
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            await anyio.sleep(32)  # the beat of 30 s is under way
            assert await keeper.confirm_apply(held)
            assert anyio.current_time() == START + 38
    assert [phases[ONE.provision_id] for _, phases in plane.beats] == [Phase.PREPARE, Phase.APPLY]


@in_virtual_time
async def test_a_longer_ttl_in_the_answer_to_an_earlier_beat_confirms_nothing() -> None:
    plane = Plane()
    plane.latency_s = 4
    plane.ttl_s = 2 * TTL_S
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            await anyio.sleep(32)
            await keeper.confirm_apply(held)
            confirmed_at = anyio.current_time()
    assert confirmed_at == START + 38


@in_virtual_time
async def test_during_an_outage_no_apply_begins() -> None:
    plane = Plane()
    plane.error = Unavailable("the network is gone")
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            assert not await keeper.confirm_apply(held)
            assert anyio.current_time() - START == pytest.approx(TRUST_S - 1)
            assert held.interruption is Interruption.TRUST_ENDED
            assert not held.is_applying


@in_virtual_time
async def test_an_apply_waits_for_a_short_outage_to_pass() -> None:
    plane = Plane()
    plane.errors = [Unavailable("503"), Unavailable("503")]
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            assert await keeper.confirm_apply(held)
            assert anyio.current_time() == START + 10


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (SUPERSEDED, Interruption.FENCED_OUT),
        (LeaseState(held=True, cancel=Cancel.GRACEFUL), Interruption.CANCELLED),
    ],
)
@in_virtual_time
async def test_no_apply_begins_on_an_answer_that_ends_the_attempt(
    state: LeaseState, why: Interruption
) -> None:
    plane = Plane()
    plane.states = {ONE.provision_id: state}
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:
            assert not await keeper.confirm_apply(held)
            assert held.interruption is why
            assert not held.is_applying


@in_virtual_time
async def test_an_interrupted_attempt_does_not_begin_to_apply() -> None:
    keeper = keeper_of(Plane())
    with keeper.hold(ONE, claimed_at=START - 1) as held:
        held.stop(Interruption.SHUTDOWN)
        assert not await keeper.confirm_apply(held)
        assert not held.is_applying


@in_virtual_time
async def test_an_interruption_ends_the_wait_for_a_confirmation() -> None:
    plane = Plane()
    plane.latency_s = 9
    async with beating(plane) as keeper:
        with keeper.hold(ONE, claimed_at=START - 1) as held:

            async def stop_soon() -> None:
                await anyio.sleep(3)
                held.stop(Interruption.SHUTDOWN)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_soon)
                assert not await keeper.confirm_apply(held)
            assert anyio.current_time() == START + 3
