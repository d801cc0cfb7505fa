"""Disks so small that they can be filled, where this user may mount any."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE = "24m"
_BLOCK = bytes(256 * 1024)


def can_mount(folder: Path) -> bool:
    """Tell whether a small disk can be had here."""
    probe = folder / "mount-probe"
    probe.mkdir()
    try:
        done = _mount(probe)
        if done:
            subprocess.run(["umount", probe], check=True)
        return done
    finally:
        probe.rmdir()


def _mount(folder: Path) -> bool:
    argv = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE},mode=0700", "tendril-chaos", str(folder)]
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount one over *folder* until the block ends; what is on it then moves into the folder."""
    if not _mount(folder):
        raise AssertionError(f"no disk can be mounted over {folder}")
    try:
        yield
    finally:
        # Lazily: a process that should be gone may stand in it, and that is for the judge to say.
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free on the disk of *folder*; return the file that took them all."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        size = len(_BLOCK)
        while size:
            try:
                if file.write(_BLOCK[:size]) < size:
                    size //= 2
            except OSError:
                size //= 2
        os.fsync(file.fileno())
    return path
