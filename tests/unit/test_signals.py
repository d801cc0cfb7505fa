"""The first signal drains, every later one interrupts."""

import functools
import os
import signal
from collections.abc import Iterator

import anyio
import pytest

from tendril_rt.aio.signals import on_stop_signals


class _Calls:
    """Notes which phase was asked for, and lets a test wait for it."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._changed = anyio.Event()

    def first(self) -> None:
        self._note("first")

    def second(self) -> None:
        self._note("second")

    async def reach(self, count: int) -> None:
        with anyio.fail_after(5):
            while len(self.made) < count:
                await self._changed.wait()

    def _note(self, phase: str) -> None:
        self.made.append(phase)
        self._changed.set()
        self._changed = anyio.Event()


@pytest.fixture
def hangup() -> Iterator[None]:
    """Have SIGHUP do what it does by itself, also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
async def test_the_first_signal_drains_and_each_later_one_interrupts(
    one: signal.Signals, other: signal.Signals
) -> None:
    calls = _Calls()
    async with anyio.create_task_group() as tasks:
        await tasks.start(on_stop_signals, calls.first, calls.second)
        for count, number in enumerate((one, other, other), start=1):
            os.kill(os.getpid(), number)
            await calls.reach(count)
        tasks.cancel_scope.cancel()
    assert calls.made == ["first", "second", "second"]


async def test_under_nohup_a_lost_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        calls = _Calls()
        async with anyio.create_task_group() as tasks:
            await tasks.start(on_stop_signals, calls.first, calls.second)
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            await calls.reach(1)
            tasks.cancel_scope.cancel()
        assert calls.made == ["first"]
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_nothing_is_called_without_a_signal() -> None:
    calls = _Calls()
    async with anyio.create_task_group() as tasks:
        await tasks.start(on_stop_signals, calls.first, calls.second)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert calls.made == []


async def test_the_usual_handlers_are_back_when_it_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    calls = _Calls()
    async with anyio.create_task_group() as tasks:
        await tasks.start(on_stop_signals, calls.first, calls.second)
        assert signal.getsignal(signal.SIGTERM) is not before
        tasks.cancel_scope.cancel()
    assert signal.getsignal(signal.SIGTERM) is before


async def test_an_echo_of_the_first_is_not_a_second() -> None:
    calls = _Calls()
    async with anyio.create_task_group() as tasks:
        await tasks.start(
            functools.partial(on_stop_signals, calls.first, calls.second, echo_s=60.0)
        )
        os.kill(os.getpid(), signal.SIGTERM)
        await calls.reach(1)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert calls.made == ["first"]


async def test_what_comes_after_the_echo_is_a_second() -> None:
    calls, echo_s = _Calls(), 0.05
    async with anyio.create_task_group() as tasks:
        await tasks.start(
            functools.partial(on_stop_signals, calls.first, calls.second, echo_s=echo_s)
        )
        os.kill(os.getpid(), signal.SIGTERM)
        await calls.reach(1)
        await anyio.sleep(2 * echo_s)
        os.kill(os.getpid(), signal.SIGTERM)
        await calls.reach(2)
        tasks.cancel_scope.cancel()
    assert calls.made == ["first", "second"]
