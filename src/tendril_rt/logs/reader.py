"""From two pipes into the spool: stdout and stderr under one order of arrival.

Flush rule: the first bytes at once, then every 500 ms or 10 KB, whichever comes first. Order: on
each wakeup stdout up to what had arrived, then stderr. Never waits for anything but the pipes.
"""

import os
import selectors
from collections.abc import Callable

import anyio
import anyio.lowlevel

from tendril_rt.logs.cut import cut_at
from tendril_rt.logs.spool import Spool
from tendril_rt.model import StreamType

FLUSH_INTERVAL_S = 0.5
FLUSH_BYTES = 10 * 1024
_BUFFER_BYTES = 64 * 1024
_TAIL_BYTES = 4 * 1024


class Reader:
    """Reads the output of one process after another into one spool.

    :param flush_interval_s: longest time that bytes wait for company, in seconds
    :param flush_bytes: size at which a chunk is cut without waiting
    :param clock: seconds, for tests
    :param tap: sees all bytes as they are read; the view is valid during the call only
    """

    def __init__(
        self,
        spool: Spool,
        *,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        flush_bytes: int = FLUSH_BYTES,
        clock: Callable[[], float] = anyio.current_time,
        tap: Callable[[StreamType, memoryview], None] = lambda _stream, _view: None,
    ) -> None:
        self._spool = spool
        self._tap = tap
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = flush_bytes
        self._clock = clock
        self._pending = {StreamType.STDOUT: bytearray(), StreamType.STDERR: bytearray()}
        self._flushed_at = float("-inf")
        self._stderr_tail = bytearray()
        self._buffer = bytearray(_BUFFER_BYTES)

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> None:
        """Read both descriptors until their end, or until *ended* is set and both are empty.

        Sets them to non-blocking, does not close them. Cancellation: what was read so far is
        spooled; what is still in the pipes is not read.
        """
        self._stderr_tail.clear()
        with selectors.DefaultSelector() as selector:
            for descriptor, stream in ((stdout, StreamType.STDOUT), (stderr, StreamType.STDERR)):
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ, stream)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read_on, selector, tasks.cancel_scope)
                    await ended.wait()
                    tasks.cancel_scope.cancel()
                while selector.get_map() and self._read_ready(selector):
                    await anyio.lowlevel.checkpoint()
            finally:
                self._flush_all()

    async def _read_on(self, selector: selectors.DefaultSelector, scope: anyio.CancelScope) -> None:
        while selector.get_map():
            await self._wait(selector.fileno())
            self._read_ready(selector)
            self._flush(self._clock())
        scope.cancel()

    @property
    def stderr_tail(self) -> bytes:
        """The end of the stderr that was drained last, at most 4 KB."""
        return bytes(self._stderr_tail)

    async def _wait(self, descriptor: int) -> None:
        """Wait for bytes, but not past the moment at which pending ones are due.

        The selector's own descriptor becomes readable when one that it watches does.
        """
        timeout_s = None
        if any(self._pending.values()):
            timeout_s = max(0.0, self._flushed_at + self._flush_interval_s - self._clock())
        with anyio.move_on_after(timeout_s):
            await anyio.wait_readable(descriptor)

    def _read_ready(self, selector: selectors.DefaultSelector) -> bool:
        """Read what has arrived; False if nothing has."""
        ready = {key.data: key.fd for key, _ in selector.select(0)}
        buffer = self._buffer
        for stream in (StreamType.STDOUT, StreamType.STDERR):
            if stream not in ready:
                continue
            try:
                count = os.readv(ready[stream], [buffer])
            except BlockingIOError:
                continue
            if count == 0:
                selector.unregister(ready[stream])
                self._cut(stream, final=True)
            else:
                self._take(stream, memoryview(buffer)[:count])
        return bool(ready)

    def _take(self, stream: StreamType, view: memoryview) -> None:
        self._tap(stream, view)
        if stream is StreamType.STDERR:
            self._stderr_tail += view
            del self._stderr_tail[:-_TAIL_BYTES]
        # Bytes of the other stream that came earlier must be stored earlier.
        other = StreamType.STDERR if stream is StreamType.STDOUT else StreamType.STDOUT
        if self._pending[other]:
            self._cut(other, final=False)
        self._pending[stream] += view
        while len(self._pending[stream]) >= self._flush_bytes:
            if not self._append(stream, cut_at(self._pending[stream], self._flush_bytes)):
                break

    def _flush(self, now: float) -> None:
        if now - self._flushed_at < self._flush_interval_s:
            return
        for stream in self._pending:
            self._cut(stream, final=False)
        self._flushed_at = now  # also when a split sequence has to wait for its end

    def _flush_all(self) -> None:
        for stream in self._pending:
            self._cut(stream, final=True)

    def _cut(self, stream: StreamType, *, final: bool) -> None:
        """Spool what is pending: up to a boundary, or all of it at the *final* cut."""
        pending = self._pending[stream]
        while pending and self._append(stream, cut_at(pending, self._flush_bytes)):
            pass
        if pending and final:
            self._append(stream, len(pending))

    def _append(self, stream: StreamType, count: int) -> bool:
        if not count:
            return False
        pending = self._pending[stream]
        with memoryview(pending) as view:
            self._spool.append(stream, view[:count])
        del pending[:count]
        self._flushed_at = self._clock()
        return True
