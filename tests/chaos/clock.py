"""A wall clock that can be set for one program alone, where libfaketime is on the machine.

It steps CLOCK_REALTIME as the program reads it through the C library; monotonic clocks stay true,
as they do when somebody sets a real clock. Terraform reads its clock past the C library.
"""

import os
from pathlib import Path

_SHARED_MEMORY = Path("/dev/shm")
_LIBRARIES = "*/faketime/libfaketime.so.1"


def library() -> Path | None:
    """Return where libfaketime is; None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob(_LIBRARIES))), None)


def environment(preloaded: Path, clock: Path) -> dict[str, str]:
    """Return what makes a program read its wall clock by the file *clock*."""
    step(clock, 0)
    return {
        "LD_PRELOAD": str(preloaded),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def forget(pid: int) -> None:
    """Remove what the library of a program that was killed left in shared memory."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (_SHARED_MEMORY / name).unlink(missing_ok=True)


def step(clock: Path, ahead_s: int) -> None:
    """Set the clock so far ahead of the machine's, at once."""
    new = clock.with_suffix(".new")
    new.write_text(f"{ahead_s:+d}\n")
    os.replace(new, clock)
