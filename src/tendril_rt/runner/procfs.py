"""Who a process is, for ever: pid and start time, on one boot and in one pid namespace.

So that a number that was given out again is never mistaken for whoever had it before.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.aio.suspend import uptime_s
from tendril_rt.runner import private


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever.

    :ivar started: clock ticks after the boot
    """

    pid: int
    started: int

    @classmethod
    def parse(cls, stat: str) -> "Identity | None":
        """Read a line of ``/proc/<pid>/stat``; None for a line that is cut or none."""
        head, _, rest = stat.rpartition(")")
        numbers = [head.partition(" ")[0], *rest.split()[19:20]]
        if not stat.endswith("\n") or len(numbers) < 2 or not all(map(str.isdecimal, numbers)):
            return None
        return cls(*map(int, numbers))

    @property
    def age_s(self) -> float:
        """Seconds since its start, if that was on this boot; never negative."""
        return max(0.0, uptime_s() - self.started / os.sysconf("SC_CLK_TCK"))

    @property
    def is_alive(self) -> bool:
        """False also for a zombie."""
        stat = _stat(self.pid)
        return self == Identity.parse(stat) and _is_living(stat)


def is_living(pid: int) -> bool:
    """Tell whether *pid* is somebody who has not ended; False for a zombie."""
    return _is_living(_stat(pid))


def _is_living(stat: str) -> bool:
    return bool(stat) and stat.rpartition(")")[2].split()[0] not in "ZX"


def _stat(pid: int) -> str:
    return read_line(Path(f"/proc/{pid}/stat"))


def machine() -> str:
    """Name the machine's boot and the pid namespace: where a pid means anything."""
    boot = read_line(Path("/proc/sys/kernel/random/boot_id")).strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}\n"


def read_line(path: Path) -> str:
    """Return the text of a small file; empty if it cannot be read."""
    try:
        return private.read(path, max_bytes=4096)  # each file here is a line
    except OSError:
        return ""
