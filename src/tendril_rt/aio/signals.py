"""SIGTERM, SIGINT and SIGHUP become two shutdown phases: drain on the first, then interrupt."""

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus


async def on_stop_signals(
    first: Callable[[], None],
    second: Callable[[], None],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call *first* at the first signal to stop, *second* at each later one; run until cancelled.

    SIGHUP (the terminal is gone) is one of them, unless it is ignored, as under nohup.

    :param task_status: reported once the handlers are installed
    """
    calls = 0
    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*numbers) as received:
        task_status.started()
        async for _ in received:
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
