"""Locks between processes of one host: flock on a file beside what it protects.

The kernel gives a lock back when its holder dies, however it dies; nothing has to be cleaned up
first. Descriptors are not inherited, so no child keeps a lock.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import anyio

_PAUSE_S = 0.02  # nothing tells when a lock of another process becomes free


def take(path: Path, *, shared: bool = False) -> int:
    """Lock *path*, made if absent; return the descriptor, which the caller closes to unlock.

    The holder before may have removed the file between our opening and our locking of it: then
    what we locked is no longer what others would find, and we begin again.

    :raises BlockingIOError: another process holds it
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


async def wait_for(path: Path, *, shared: bool = False) -> int:
    """Lock *path* as :func:`take` does, once nobody else holds it.

    Cancellation: safe, nothing is held.
    """
    while True:
        with suppress(BlockingIOError):
            return take(path, shared=shared)
        await anyio.sleep(_PAUSE_S)
