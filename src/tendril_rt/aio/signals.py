"""SIGTERM, SIGINT and SIGHUP become two shutdown phases: drain on the first, then interrupt."""

import math
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus


async def on_stop_signals(
    first: Callable[[], None],
    second: Callable[[], None],
    *,
    echo_s: float = 0.0,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call *first* at the first signal to stop, *second* at each later one; run until cancelled.

    SIGHUP (the terminal is gone) is one of them, unless it is ignored, as under nohup.

    :param echo_s: one that follows another within so many seconds is the same one heard twice: who
        signals a group of processes reaches those that hand signals on, too
    :param task_status: reported once the handlers are installed
    """
    calls = 0
    heard_at = -math.inf
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*numbers) as received:
        task_status.started()
        async for _ in received:
            before, heard_at = heard_at, anyio.current_time()
            if heard_at - before < echo_s:
                continue
            calls += 1
            (first if calls == 1 else second)()


@asynccontextmanager
async def cancelled_by_signals(again: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Cancel the block at the first signal to stop; call *again* at each later one."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            await tasks.start(on_stop_signals, scope.cancel, again)
            yield
        tasks.cancel_scope.cancel()
