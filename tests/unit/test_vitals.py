"""Signs of life: what alive and ready mean, by an injected clock."""

from dataclasses import dataclass

import pytest

from tendril_rt.agent.events import Draining, RpcEnded, RpcResult
from tendril_rt.agent.vitals import READY_WITHIN_S, STUCK_AFTER_S, Vitals


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    return Vitals(clock)


def beat(result: RpcResult = RpcResult.OK, took_s: float = 0.0) -> RpcEnded:
    return RpcEnded("heartbeat", result, took_s)


def test_a_loop_that_turns_is_alive_whatever_the_control_plane_does(
    vitals: Vitals, clock: Clock
) -> None:
    for _ in range(100):
        clock.now += STUCK_AFTER_S - 1
        vitals.tick()
    assert vitals.alive().ok
    assert vitals.alive().figures == {"loop_age_s": 0.0}
    assert not vitals.ready().ok


def test_a_loop_without_ticks_is_alive_until_the_limit_and_again_after_a_tick(
    vitals: Vitals, clock: Clock
) -> None:
    clock.now += STUCK_AFTER_S - 0.1
    assert vitals.alive().ok
    clock.now += 0.1
    assert not vitals.alive().ok
    assert vitals.alive().why == "the event loop has been stuck for 30 s"
    vitals.tick()
    assert vitals.alive().ok


def test_ready_needs_an_accepted_heartbeat(vitals: Vitals) -> None:
    assert vitals.ready().why.startswith("no heartbeat was accepted yet")
    for result in (RpcResult.UNAVAILABLE, RpcResult.UNAUTHORIZED, RpcResult.REJECTED):
        vitals.observe(beat(result))
        assert not vitals.ready().ok
    vitals.observe(RpcEnded("claim", RpcResult.OK, 0.1))
    assert not vitals.ready().ok
    assert vitals.ready().figures["heartbeat_age_s"] is None
    vitals.observe(beat())
    assert vitals.ready().ok


def test_ready_ends_when_the_control_plane_takes_the_agent_for_offline(
    vitals: Vitals, clock: Clock
) -> None:
    vitals.observe(beat())
    clock.now += READY_WITHIN_S - 0.1
    assert vitals.ready().ok
    clock.now += 0.1
    assert not vitals.ready().ok
    assert "90 s old" in vitals.ready().why
    vitals.observe(beat())
    assert vitals.ready().ok


def test_the_age_of_a_heartbeat_counts_from_its_sending(vitals: Vitals, clock: Clock) -> None:
    clock.now += 7
    vitals.observe(beat(took_s=5))
    assert vitals.heartbeat_age_s == 5
    assert vitals.ready().figures["heartbeat_age_s"] == 5


def test_before_the_first_heartbeat_its_age_counts_from_the_start(
    vitals: Vitals, clock: Clock
) -> None:
    clock.now += 42
    assert vitals.heartbeat_age_s == 42


def test_a_draining_agent_is_alive_but_not_ready(vitals: Vitals) -> None:
    vitals.observe(beat())
    vitals.observe(Draining())
    assert vitals.alive().ok
    assert not vitals.ready().ok
    assert vitals.ready().why == "draining: claims nothing more"


def test_events_of_others_are_left_alone(vitals: Vitals) -> None:
    vitals.observe("anything")
    assert not vitals.ready().ok
