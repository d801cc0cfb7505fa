"""What the tests of ``runner/`` share: collected output, waiting for a condition, and /proc."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from tendril_rt.logs.reader import Reader
from tendril_rt.logs.spool import Spool
from tendril_rt.model import StreamType
from tests.unit.log_support import chunks, new_spool, reading


@dataclass(frozen=True)
class Recorded:
    """The output of one process after another, through the agent's own reader and spool."""

    spool: Spool
    reader: Reader

    def text(self, stream: StreamType | None = None) -> str:
        """Return what *stream* said so far; both together in the order of arrival."""
        return "".join(chunk.text for chunk in chunks(self.spool) if stream in (None, chunk.stream))

    @property
    def stdout(self) -> str:
        return self.text(StreamType.STDOUT)

    def words(self, start: str) -> list[str]:
        """Return the rest of each whole line of stdout that begins with *start*."""
        whole, _, _ = self.stdout.rpartition("\n")
        return [
            line.removeprefix(start).strip() for line in whole.split("\n") if line.startswith(start)
        ]


@contextmanager
def recording(folder: Path) -> Iterator[Recorded]:
    """Collect output in a new spool below *folder*, which is made."""
    folder.mkdir()
    with new_spool(folder) as spool, reading(spool, flush_interval_s=0.0) as reader:
        yield Recorded(spool, reader)


async def until(condition: Callable[[], object], within_s: float = 8.0) -> None:
    """Wait until *condition* holds: files and processes tell nobody when they change.

    :raises TimeoutError: it does not within *within_s* seconds
    """
    with anyio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Tell whether *pid* lives; a zombie that its parent has yet to reap does not."""
    return _state(pid) not in ("", "Z", "X")


def zombies() -> list[int]:
    """Return this process's children that ended and were never waited for."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if _state(pid) == "Z"]


def open_descriptors() -> int:
    """Return how many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def kill(pid: int) -> None:
    """Clear away a process that a test made and that may have outlived it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
