"""Waiting for the end of a launched process: for what is said of it, and for who still lives.

Works for processes that are no children of ours. Starts nothing, stops nothing.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from tendril_rt.runner.launched import Pipes, RunFolder
from tendril_rt.runner.procfs import is_living

#: For a launcher to say how its process ended, in seconds; also for one to end after SIGKILL.
REAP_S = 5.0
_EVENTS_BYTES = 4096
_LOOK_S = 0.05


class Watch:
    """Waits for the end of a folder's process, by what is said of it and by who lives.

    :param launcher: its pid, None if it is known to be gone
    :ivar known: set once the process's pid is known
    """

    def __init__(self, folder: RunFolder, pipes: Pipes, launcher: int | None) -> None:
        self.folder = folder
        self.pipes = pipes
        self.known = anyio.Event()
        self._launcher = launcher

    async def end(self) -> None:
        """Return when the exit code is known, or nobody is left who could say it."""
        if self.folder.exit_code is None:
            async with anyio.create_task_group() as tasks:
                for wait in (self._told, self._launcher_gone, self._process_gone):
                    tasks.start_soon(_first, wait, tasks.cancel_scope)
        self._hear()

    async def _told(self) -> None:
        self._hear()
        while self.folder.exit_code is None:
            await anyio.wait_readable(self.pipes.events)
            self._hear()

    async def _launcher_gone(self) -> None:
        """It never ends of its own accord; after it only the process itself is left to watch."""
        await death(self._launcher)
        process = self.folder.process
        if process is not None and process.is_alive:
            await death(process.pid)

    async def _process_gone(self) -> None:
        """Its launcher says so at once; if not, it never will."""
        await self.known.wait()
        process = self.folder.process
        if process is not None and process.is_alive:
            self.folder.was_seen_alive = True
            await death(process.pid)
        await anyio.sleep(REAP_S)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            self.folder.hear(os.read(self.pipes.events, _EVENTS_BYTES))
        if self.folder.process is not None:
            self.known.set()


async def death(pid: int | None) -> None:
    """Wait until *pid* has ended, our own child or not."""
    if pid is None:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel before 5.3, or a sandbox that has none
        while is_living(pid):  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(_LOOK_S)
        return
    try:
        await anyio.wait_readable(descriptor)
    finally:
        os.close(descriptor)


async def first_of(timeout_s: float, *events: anyio.Event) -> None:
    """Return when one of *events* is set, or after *timeout_s* seconds."""
    with anyio.move_on_after(timeout_s):
        async with anyio.create_task_group() as tasks:
            for event in events:
                tasks.start_soon(_first, event.wait, tasks.cancel_scope)


async def _first(wait: Callable[[], Awaitable[object]], scope: anyio.CancelScope) -> None:
    await wait()
    scope.cancel()
