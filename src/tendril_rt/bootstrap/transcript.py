"""What Terraform says during a bootstrap: into a file (0600), and its last line to who watches."""

import os
import re
import time
from contextlib import suppress
from pathlib import Path

import anyio

from tendril_rt.bootstrap.plan import Narrator
from tendril_rt.model import StreamType
from tendril_rt.runner.summary import Summary

_READ_BYTES = 65536
_TAIL_BYTES = 64 * 1024
_TICK_S = 1.0
#: Lines that tell how far it is: a resource begins, goes on or is there.
_TELLING = re.compile(
    r"^\S.*: (?:Creating\.\.\.|Still creating|Creation complete|Modifying|Still modifying"
    r"|Modifications complete|Destroying|Still destroying|Destruction complete|Refreshing state"
    r"|Reading\.\.\.|Still reading|Read complete)"
)


class Transcript:
    """Reads the output of one step after another; an ``attended.Output``.

    :ivar summary: what Terraform says of its own work in the present step
    """

    def __init__(self, path: Path, narrator: Narrator) -> None:
        self.path = path
        self.summary = Summary()
        self._narrator = narrator
        self._tail = b""
        self._line = b""
        self._label = ""
        self._last = ""
        self._since = time.monotonic()

    def begin(self, label: str) -> None:
        """Name the step whose output comes next."""
        self.summary.begin()
        self._label, self._last, self._line, self._tail = label, "", b"", b""
        self._since = time.monotonic()

    @property
    def stderr_tail(self) -> bytes:
        """The end of the stderr that was drained last."""
        return self._tail

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> None:
        """Read both streams until *ended* is set and both are empty.

        Cancellation keeps what was read.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self.path, flags, 0o600)
        try:
            os.write(file, f"\n# {self._label}\n".encode())
            streams = ((StreamType.STDOUT, stdout), (StreamType.STDERR, stderr))
            async with anyio.create_task_group() as tasks:
                for stream, pipe in streams:
                    tasks.start_soon(self._follow, stream, pipe, file)
                tasks.start_soon(self._tick)
                await ended.wait()
                tasks.cancel_scope.cancel()
            for stream, pipe in streams:
                with suppress(BlockingIOError):
                    while data := os.read(pipe, _READ_BYTES):
                        self._take(stream, data, file)
        finally:
            os.close(file)
            self._narrator.progress("")

    async def _follow(self, stream: StreamType, pipe: int, file: int) -> None:
        while True:
            await anyio.wait_readable(pipe)
            with suppress(BlockingIOError):
                self._take(stream, os.read(pipe, _READ_BYTES), file)

    def _take(self, stream: StreamType, data: bytes, file: int) -> None:
        os.write(file, data)
        self.summary.see(stream, memoryview(data))
        if stream is StreamType.STDERR:
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            return
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[-_READ_BYTES:]
        for line in lines:
            if _TELLING.match(text := line.decode(errors="replace")):
                self._last = text

    async def _tick(self) -> None:
        while True:
            passed_s = int(time.monotonic() - self._since)
            self._narrator.progress(f"  {self._label}, {passed_s} s: {self._last}")
            await anyio.sleep(_TICK_S)
