"""Keeps this process's memory and environment from other programs of its user.

Templates run as the agent's user. Without this each could read the agent's token out of
``/proc/<pid>/environ``, or its memory. Linux only: elsewhere nothing is changed.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_INIT = 1


def become_opaque() -> bool:
    """Forbid core dumps, debuggers, and a look from outside, to all but root; tell if it worked.

    What is started from here on begins anew: ``execve`` makes a process readable again.
    Source: prctl(2), PR_SET_DUMPABLE; ptrace(2), "Ptrace access mode checking".
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)


def who_shows(secret: str) -> list[str]:
    """Name those of this process's ancestors whose environment this user can read *secret* in.

    Whoever started it with the secret in its environment holds a copy, such as an init program.
    """
    found: list[str] = []
    pid = os.getppid()
    while pid:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            environment = b""
        name, parent = _name_and_parent(pid)
        if secret.encode() in environment:
            found.append(f"{name} (pid {pid})")
        pid = parent if pid != _INIT else 0
    return found


def _name_and_parent(pid: int) -> tuple[str, int]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "", 0
    head, _, rest = stat.rpartition(")")
    return head.partition("(")[2], int(rest.split()[1])
