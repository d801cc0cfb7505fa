"""Noticing that the machine slept: every socket is suspect after it, and every timer late.

The clock that counts through a suspend runs ahead of the one that stops in it, by exactly the time
slept. Neither is the wall clock, so setting that is no suspend.
"""

import time
from collections.abc import Callable

import anyio

_THRESHOLD_S = 1.0  # the two clocks are not read at the same instant


def uptime_s() -> float:
    """Return seconds since the boot, suspends included; no setting of the wall clock moves it."""
    # Linux names the clock that goes on; elsewhere (Darwin) CLOCK_MONOTONIC does.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SleepMeter:
    """How long the machine slept since it was last asked.

    :param through_suspend: seconds on a clock that goes on in a suspend
    :param awake: seconds on one that stops in it
    """

    def __init__(
        self,
        through_suspend: Callable[[], float] = uptime_s,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._through_suspend = through_suspend
        self._awake = awake
        self._lead_s = through_suspend() - awake()

    def slept_s(self) -> float:
        """Return the seconds slept since the last call; 0 for less than a second."""
        lead_s = self._through_suspend() - self._awake()
        slept_s = lead_s - self._lead_s
        if slept_s < _THRESHOLD_S:
            return 0.0
        self._lead_s = lead_s
        return slept_s


async def watch_suspends(
    on_resume: Callable[[float], None],
    *,
    interval_s: float = 2.0,
    meter: SleepMeter | None = None,
) -> None:
    """Call *on_resume* with the seconds slept, within *interval_s* of waking; until cancelled."""
    meter = meter or SleepMeter()
    while True:
        await anyio.sleep(interval_s)
        if slept_s := meter.slept_s():
            on_resume(slept_s)
