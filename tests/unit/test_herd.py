"""A thousand agents that lose their server at once do not come back at once."""

import heapq
import random
from collections import Counter

import anyio
import pytest

from tendril_rt.agent.intake import Intake
from tendril_rt.agent.slots import Slots
from tendril_rt.aio.backoff import Backoff
from tendril_rt.control.judgement import Patience
from tendril_rt.control.listener import Timing
from tendril_rt.control.push import Cause
from tendril_rt.model import ClaimId, Provision
from tests.unit.virtual_time import in_virtual_time

AGENTS = 1000
DEFAULT = Timing()


def patience(chance: random.Random) -> Patience:
    return Patience(
        backoff=Backoff(
            DEFAULT.backoff,
            DEFAULT.backoff_max,
            floor_s=DEFAULT.backoff_floor,
            uniform=chance.uniform,
        ),
        stable_s=DEFAULT.stable,
        spread_s=DEFAULT.spread,
        rate_limit_s=DEFAULT.rate_limit,
        uniform=chance.uniform,
    )


def come_back(*, joins_per_s: float, down_s: float = 0.0) -> list[tuple[float, bool]]:
    """Let every agent lose a long session at 0; return each try: when, and whether it was let in.

    :param joins_per_s: how many the server takes in one second before it speaks of rate limits
    :param down_s: for so long it refuses every connection
    """
    chance = random.Random(7)
    agents = [patience(chance) for _ in range(AGENTS)]
    due = [(agent.next_s(ready_s=3600, is_rate_limit=False), n) for n, agent in enumerate(agents)]
    heapq.heapify(due)
    tries: list[tuple[float, bool]] = []
    admitted: Counter[int] = Counter()
    while due:
        now, number = heapq.heappop(due)
        is_up = now >= down_s
        is_in = is_up and admitted[int(now)] < joins_per_s
        tries.append((now, is_in))
        if is_in:
            admitted[int(now)] += 1
        else:
            delay_s = agents[number].next_s(ready_s=0, is_rate_limit=is_up)
            heapq.heappush(due, (now + delay_s, number))
    return tries


def test_a_rate_limit_asks_for_patience_even_after_a_long_session() -> None:
    agent = patience(random.Random(7))
    for ready_s in (0.0, 3600.0):
        assert agent.next_s(ready_s=ready_s, is_rate_limit=True) >= DEFAULT.rate_limit


def busiest_second(times: list[float]) -> int:
    """Return the most that fall into any one second."""
    ordered = sorted(times)
    most = first = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_tries_are_spread_over_about_a_poll() -> None:
    tries = come_back(joins_per_s=AGENTS)
    assert len(tries) == AGENTS
    assert busiest_second([at for at, _ in tries]) <= 260  # 200 on average
    assert max(at for at, _ in tries) <= DEFAULT.spread


def test_a_server_with_a_rate_limit_takes_them_all_in_before_long() -> None:
    tries = come_back(joins_per_s=50)
    assert max(at for at, _ in tries) <= 180
    assert len(tries) <= 3 * AGENTS  # nobody hammers
    later = [at for at, _ in tries if at > DEFAULT.spread]
    assert busiest_second(later) <= 100


def test_a_server_that_is_away_for_minutes_is_asked_ever_more_rarely() -> None:
    tries = come_back(joins_per_s=AGENTS, down_s=300)
    assert busiest_second([at for at, _ in tries if 120 <= at < 300]) <= 60
    assert max(at for at, _ in tries) <= 300 + DEFAULT.backoff_max
    assert busiest_second([at for at, _ in tries]) <= 800  # of connections that are refused


@pytest.mark.parametrize("agents", [AGENTS])
@in_virtual_time
async def test_their_claims_are_spread_like_their_sessions(agents: int) -> None:
    """Each comes back, sweeps at its readiness and once more: no second sees more than a third."""
    chance = random.Random(7)
    claims: list[float] = []

    async def claim(_: ClaimId) -> Provision | None:
        claims.append(anyio.current_time())
        return None

    async def come_back_and_sweep(intake: Intake) -> None:
        await anyio.sleep(patience(chance).next_s(ready_s=3600, is_rate_limit=False))
        for pause_s in (0.0, DEFAULT.sweep):
            await anyio.sleep(pause_s)
            intake.wake(Cause.SWEEP)

    async with anyio.create_task_group() as tasks:
        for _ in range(agents):
            intake = Intake(
                claim=claim, start=lambda _, __: None, slots=Slots(1), poll_interval_s=5.0
            )
            tasks.start_soon(intake.run)
            tasks.start_soon(come_back_and_sweep, intake)
        await anyio.sleep(20)
        tasks.cancel_scope.cancel()
    started = claims[:agents]
    assert started == [1_000.0] * agents  # what intakes do when they begin
    assert busiest_second(claims[agents:]) <= agents * 0.8  # 200 polls and twice 200 sweeps, about
