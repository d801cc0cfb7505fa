"""What runs in a folder: every process whose arguments, environment or directory name it."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KILL_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Process:
    """One process as ``/proc`` shows it.

    :ivar provision: the id in its directory or arguments, if there is one
    """

    pid: int
    name: str
    command: str
    provision: str | None


def within(folder: Path) -> Iterator[Process]:
    """Yield the living processes that name *folder*; not this one."""
    wanted = str(folder).encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            root = Path("/proc", entry)
            cwd = os.fsencode(os.readlink(root / "cwd"))
            command = (root / "cmdline").read_bytes()
            environ = (root / "environ").read_bytes()
            stat = (root / "stat").read_text()
        except OSError:  # it has ended
            continue
        state = stat.rpartition(")")[2].split()[0]
        if state in "ZX" or not any(wanted in text for text in (cwd, command, environ)):
            continue
        found = _UUID.search(f"{cwd.decode()} {command.decode(errors='replace')}")
        yield Process(
            int(entry),
            stat[stat.index("(") + 1 : stat.rindex(")")],
            command.replace(b"\0", b" ").decode(errors="replace").strip()[:200],
            found[0] if found else None,
        )


def provisions_named_in(home: Path) -> Iterator[str]:
    """Yield the provisions that files or folders of an agent are named after."""
    for path in home.glob("*/*"):
        for name in (path.name, *(os.listdir(path) if path.is_dir() else ())):
            if found := _UUID.search(name):
                yield found[0]


def terraforms(home: Path) -> list[Process]:
    """Return the Terraform processes of one agent's provisions."""
    return [
        process
        for process in within(home / "workspaces")
        if process.name in ("terraform", "tofu") and process.provision is not None
    ]


def kill_all(folder: Path, first: int) -> set[str]:
    """SIGKILL *first* and everything in *folder*; return the provisions that were running there."""
    provisions: set[str] = set()
    for _ in range(_KILL_ROUNDS):
        found = list(within(folder))
        for pid in (first, *(process.pid for process in found)):
            send(pid, signal.SIGKILL)
        provisions |= {process.provision for process in found if process.provision}
        if not found:
            return provisions
    raise AssertionError(f"processes in {folder} survive SIGKILL: {list(within(folder))}")


def send(pid: int, number: signal.Signals) -> bool:
    """Signal one process; False if there is none any more."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def children(pid: int | None) -> list[int]:
    """Return the direct children of a process, oldest first; none of None."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]
