"""SIGTERM and SIGINT become two shutdown phases: drain on the first, interrupt on the second."""

import signal
from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus


async def on_stop_signals(
    first: Callable[[], None],
    second: Callable[[], None],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Call *first* at the first SIGTERM or SIGINT, *second* at each later one; run until cancelled.

    :param task_status: reported once the handlers are installed
    """
    calls = 0
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for _ in received:
            calls += 1
            (first if calls == 1 else second)()
