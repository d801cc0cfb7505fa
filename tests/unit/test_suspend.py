"""A suspend is what one clock counts and the other does not; nothing else is."""

import anyio
import pytest

from tendril_rt.aio.suspend import SleepMeter, watch_suspends
from tests.unit.virtual_time import in_virtual_time


class Clocks:
    """Two clocks, set by hand."""

    def __init__(self) -> None:
        self.through_suspend_s = 5_000.0
        self.awake_s = 100.0

    def pass_awake(self, seconds: float) -> None:
        self.awake_s += seconds
        self.through_suspend_s += seconds

    def sleep(self, seconds: float) -> None:
        self.through_suspend_s += seconds

    def meter(self) -> SleepMeter:
        return SleepMeter(lambda: self.through_suspend_s, lambda: self.awake_s)


def test_time_awake_is_no_sleep() -> None:
    clocks = Clocks()
    meter = clocks.meter()
    clocks.pass_awake(86_400)
    assert meter.slept_s() == 0


def test_each_sleep_is_told_once_and_in_full() -> None:
    clocks = Clocks()
    meter = clocks.meter()
    for seconds in (3600.0, 20.0):
        clocks.pass_awake(10)
        clocks.sleep(seconds)
        assert meter.slept_s() == pytest.approx(seconds)
        assert meter.slept_s() == 0


def test_short_sleeps_add_up() -> None:
    clocks = Clocks()
    meter = clocks.meter()
    told = 0.0
    for _ in range(10):
        clocks.sleep(0.4)
        told += meter.slept_s()
    assert told == pytest.approx(3.6)  # in threes: the last 0.4 s wait for more


def test_the_clocks_of_this_machine_agree_while_it_is_awake() -> None:
    assert SleepMeter().slept_s() == 0


@in_virtual_time
async def test_a_resume_is_noticed_within_the_interval() -> None:
    clocks, resumed = Clocks(), list[tuple[float, float]]()

    def note(slept_s: float) -> None:
        resumed.append((slept_s, anyio.current_time()))

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await watch_suspends(note, interval_s=2.0, meter=clocks.meter())

        tasks.start_soon(watch)
        await anyio.sleep(61)
        assert resumed == []
        clocks.sleep(1800)
        slept_until = anyio.current_time()
        await anyio.sleep(10)
        ((slept_s, at),) = resumed
        assert slept_s == pytest.approx(1800)
        assert at - slept_until <= 2.0
        tasks.cancel_scope.cancel()
