"""Files that are this user's alone, and files that others of this user may have tampered with.

A template runs as the agent's user: where it can write, a FIFO may stand in the place of a file,
and whoever opened that would wait for ever.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def write(path: Path, text: str) -> None:
    """Write *text* with mode 0600, whole or not at all; never through a link that stands there.

    :raises OSError: the disk refuses
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def opened(path: Path) -> BinaryIO:
    """Open *path* for reading if it is an ordinary file; never waits, follows no link there.

    :raises OSError: it cannot be opened, or is something else
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not an ordinary file", str(path))
    return os.fdopen(descriptor, "rb")


def read(path: Path, *, max_bytes: int) -> str:
    """Return the text of *path*, at most *max_bytes* of it; what is no UTF-8 becomes U+FFFD.

    :raises OSError: see :func:`opened`
    """
    with opened(path) as file:
        return file.read(max_bytes).decode(errors="replace")
