"""How much the disk holds, and stopping what fills it.

Looks at folders from a thread, at most a small part of the time, however large they are.
"""

import os
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from tendril_rt.errors import StepError

_FIRST_LOOK_S = 0.05
_LOOK_S = 2.0  # at most this long between two looks
_LOOKING_SHARE = 0.05  # of the time, for folders that take long to look through
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is

T = TypeVar("T")


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that holds *path*, or will once it is made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def has_room(paths: Iterable[Path], floor_bytes: int) -> bool:
    """Tell whether every disk that holds one of *paths* has at least *floor_bytes* free."""
    return all(free_bytes(path) >= floor_bytes for path in paths)


def used_bytes(folder: Path) -> int:
    """Return the bytes that *folder* takes on its disk; what vanishes meanwhile counts nothing."""
    total = 0
    folders = [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total


async def limited(
    work: Callable[[], Awaitable[T]],
    folder: Path,
    *,
    max_bytes: int,
    excess: Callable[[StepError | None], StepError],
    interrupt: anyio.Event | None = None,
) -> T:
    """Return what *work* does, unless *folder* holds more than *max_bytes* meanwhile.

    Then *interrupt* is set and the end of *work* awaited: if it ends well all the same, its result
    counts. Without *interrupt*, *work* is cancelled, and looked after once more at its end.
    Cancellation: that of *work*.

    :param excess: makes the error of a stopped *work* from what *work* itself raised then
    :raises StepError: *excess*, or what *work* raised
    """
    results: list[T] = []
    failures: list[Exception] = []
    exceeded = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await _until_larger(folder, max_bytes)
            exceeded.set()
            if interrupt is None:
                tasks.cancel_scope.cancel()
            else:
                interrupt.set()

        tasks.start_soon(watch)
        try:
            results.append(await work())
        except Exception as exc:  # noqa: BLE001 - raised below, without a group around it
            failures.append(exc)
        tasks.cancel_scope.cancel()
    if results and (interrupt or await _used_bytes(folder) <= max_bytes):
        return results[0]
    cause = failures[0] if failures else None
    if cause is None:
        raise excess(None)
    if isinstance(cause, StepError) and exceeded.is_set():
        raise excess(cause) from cause
    raise cause


async def _until_larger(folder: Path, max_bytes: int) -> None:
    pause_s = _FIRST_LOOK_S
    while True:
        await anyio.sleep(pause_s)
        began_at = anyio.current_time()
        if await _used_bytes(folder) > max_bytes:
            return
        took_s = anyio.current_time() - began_at
        pause_s = max(min(2 * pause_s, _LOOK_S), took_s / _LOOKING_SHARE)


async def _used_bytes(folder: Path) -> int:
    return await anyio.to_thread.run_sync(used_bytes, folder)
