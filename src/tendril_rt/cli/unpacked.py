"""The folder into which a one-file binary unpacks itself: claimed while in use, swept afterwards.

PyInstaller's bootloader unpacks into ``$TMPDIR/_MEI…`` (else ``/tmp``), starts the program as its
child and removes the folder when the child has ended. A bootloader that is killed leaves its
folder there. Other programs are built with PyInstaller too, so only folders with our mark are
touched, and only once the mark's lock is free. A folder whose program was killed before it came to
mark it stays.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from tendril_rt.errors import LocalError

#: Names the file whose lock says that the folder is in use.
MARK = "in-use-by-tendril"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def claim(folder: Path) -> IO[bytes]:
    """Mark *folder* as ours and in use, for as long as the returned file is open.

    :raises OSError: the disk refuses
    """
    fresh = folder / f"{MARK}.new"
    file = fresh.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    fresh.rename(folder / MARK)  # only now: nobody may see the mark without its lock
    return file


def sweep(parent: Path) -> None:
    """Remove from *parent* the folders of this user that were claimed and are in use no more."""
    for mark in parent.glob(f"_MEI*/{MARK}"):
        with suppress(OSError):  # in use, removed by somebody else meanwhile, or not ours
            status = mark.parent.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_unless_in_use(mark)


def _remove_unless_in_use(mark: Path) -> None:
    descriptor = os.open(mark, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(mark.parent)
    finally:
        os.close(descriptor)


def die_with_the_bootloader() -> None:
    """Let a SIGKILL of the parent be one of this process: together they are one program.

    Otherwise a killed binary would go on claiming, while a supervisor starts the next. What it
    launched lives on, and the next life takes it up. Linux only: elsewhere nothing is changed.

    :raises LocalError: the parent was killed meanwhile
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        is_there = os.path.samefile(f"/proc/{os.getppid()}/exe", "/proc/self/exe")
    except OSError:
        is_there = False
    if not is_there:
        raise LocalError("the process that unpacked this program is gone")
