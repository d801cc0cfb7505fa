"""Who lives on this machine: newcomers alone can be somebody's descendants.

Looking into every process costs ten microseconds each, so much on a host of thousands that a step
of Terraform would wait for it. A process that was there before another one began is none of its
descendants, as long as its number cannot have been given out again: the kernel goes once round all
numbers first, and counts the forks.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_PID_MAX = Path("/proc/sys/kernel/pid_max")
_SHARE = 4  # of all numbers: living processes and threads shorten a round


@dataclass(frozen=True, slots=True)
class Census:
    """Who lived at one moment.

    :ivar forks: of the machine since its boot, threads too; None if nobody says
    """

    pids: frozenset[str]
    forks: int | None

    @classmethod
    def take(cls) -> "Census":
        return cls(frozenset(living()), _forks())

    def newcomers(self) -> Sequence[str]:
        """Return who lives now and may have begun since: everybody, where that cannot be told."""
        now = _forks()
        if self.forks is None or now is None or now - self.forks > _pid_max() // _SHARE:
            return living()
        return [pid for pid in living() if pid not in self.pids]


def living() -> Sequence[str]:
    """Return the pids of all processes that this one can see."""
    return [name for name in os.listdir("/proc") if name.isdigit()]


def has_variable(pid: str, variable: str) -> bool:
    """Tell whether a process began with ``NAME=value``; False for one that others own, or ended."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            environment = file.readall()
    except OSError:
        return False
    return f"\0{variable}\0".encode() in b"\0" + environment


def _forks() -> int | None:
    try:
        lines = _STAT.read_text().splitlines()
    except OSError:  # a sandbox that has none
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("processes ")), None)


def _pid_max() -> int:
    try:
        return int(_PID_MAX.read_text())
    except OSError:
        return 0
