"""From two pipes into the spool: stdout and stderr under one order of arrival.

``readv`` → :class:`Basin` → redactor → chunks → ``writev``. Flush rule: the first bytes at once,
then every 500 ms or 10 KB, whichever comes first. Order: on each wakeup stdout, up to what had
arrived, then stderr. Never waits for anything but the pipes.

What the process held when it was killed is in the basin; a new reader over the reopened basin and
spool goes on with exactly the bytes that are not spooled yet.
"""

import fcntl
import os
import selectors
import termios
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import anyio.lowlevel

from tendril_rt.logs.basin import STREAMS, Basin
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.spool import Spool
from tendril_rt.logs.stream import Stream
from tendril_rt.model import StreamType

FLUSH_INTERVAL_S = 0.5
FLUSH_BYTES = 10 * 1024
PIPE_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024  # half a slot, and what goes into one request
_ROOM_BYTES = 64 * 1024
_TAIL_BYTES = 4 * 1024


class Reader:
    """Reads the output of one process after another into one spool.

    :param flush_interval_s: longest time that bytes wait for company, in seconds
    :param flush_bytes: size at which a chunk is cut without waiting; it takes up to twice as much
        if that is there: invalid bytes may treble a chunk, and 64 KiB is what may be sent
    :param clock: seconds, for tests
    :param tap: sees all bytes as they are read; the view is valid during the call only
    """

    def __init__(
        self,
        spool: Spool,
        basin: Basin,
        redactor: Redactor,
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
        self._lanes = basin.lanes
        self._streams = {
            stream: Stream(basin.lanes[stream], redactor, spool.progress[stream], 2 * flush_bytes)
            for stream in STREAMS
        }
        self._flushed_at = float("-inf")
        self._stderr_tail = b""
        for stream in self._streams.values():
            if stream.lost_bytes:
                spool.lose(stream.lost_bytes)

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event | None = None) -> bytes:
        """Read both descriptors to their end; return :attr:`stderr_tail`.

        Their end is EOF on both, or, once *ended* is set, that both are empty: a named pipe that
        somebody holds open has no EOF. What an earlier reader had taken out of them and not spooled
        comes first. Sets the descriptors to non-blocking, does not close them.

        Cancellation: what was read so far is spooled; what is still in the pipes is not read.
        """
        self._stderr_tail = b""
        with selectors.DefaultSelector() as selector, _bell() as (heard, ring):
            async with anyio.create_task_group() as tasks:
                if ended is not None:
                    tasks.start_soon(_ring_at, ended, ring)
                selector.register(heard, selectors.EVENT_READ)
                for descriptor, stream in ((stdout, STREAMS[0]), (stderr, STREAMS[1])):
                    _prepare(descriptor)
                    selector.register(descriptor, selectors.EVENT_READ, stream)
                try:
                    await self._read_to_the_end(selector, ended)
                finally:
                    self.finish()
                tasks.cancel_scope.cancel()
        return self.stderr_tail

    def finish(self) -> None:
        """Spool all that was read: nothing will follow. Also what an earlier reader left."""
        for stream in STREAMS:
            self._take(stream, final=True)

    @property
    def stderr_tail(self) -> bytes:
        """The end of the stderr that was drained last, at most 4 KB, without secrets."""
        return self._stderr_tail

    async def _read_to_the_end(
        self, selector: selectors.DefaultSelector, ended: anyio.Event | None
    ) -> None:
        for stream in STREAMS:
            self._show(stream, self._lanes[stream].start)
            self._take(stream, final=False)
        while len(selector.get_map()) > 1:  # more than the bell
            if not await self._read_ready(selector):  # looking first is cheaper than waiting
                if ended is not None and ended.is_set():
                    return
                await self._wait(selector.fileno())
            self._flush(self._clock())

    async def _wait(self, descriptor: int) -> None:
        """Wait for bytes, but not past the moment at which pending ones are due.

        The selector's own descriptor becomes readable when one that it watches does.
        """
        timeout_s = None
        if any(stream.is_pending for stream in self._streams.values()):
            timeout_s = max(0.0, self._flushed_at + self._flush_interval_s - self._clock())
        with anyio.move_on_after(timeout_s):
            await anyio.wait_readable(descriptor)

    async def _read_ready(self, selector: selectors.DefaultSelector) -> bool:
        """Read what had arrived at this moment; True if there was anything, or an end."""
        arrived = [
            (key.data, key.fd, _unread_bytes(key.fd))
            for key, _ in selector.select(0)
            if key.data is not None
        ]
        for stream, descriptor, count in sorted(arrived, key=lambda ready: STREAMS.index(ready[0])):
            if count:
                await self._read(stream, descriptor, count)
            elif not await self._read(stream, descriptor, _READ_BYTES):
                selector.unregister(descriptor)
                self._take(stream, final=True)
        return bool(arrived)

    async def _read(self, stream: StreamType, descriptor: int, count: int) -> bool:
        """Read *count* bytes, or what there is of them; False at the end of the stream."""
        # Bytes of the other stream that came earlier must be stored earlier.
        other = STREAMS[1] if stream is STREAMS[0] else STREAMS[0]
        if self._streams[other].is_pending:
            self._spool_chunks(other)
        lane = self._lanes[stream]
        while count > 0:
            if lane.room_bytes < _ROOM_BYTES:
                self._spool_chunks(stream)
                lane.turn()
            known = lane.end
            try:
                read = lane.read(descriptor, min(count, _READ_BYTES))
            except BlockingIOError:
                return True
            if read == 0:
                return False
            count -= read
            self._show(stream, known)
            self._take(stream, final=False)
            await anyio.lowlevel.checkpoint()  # others, such as the shipper, have their turn
        return True

    def _show(self, stream: StreamType, since: int) -> None:
        """Let the tap see what the lane holds from the offset *since* on."""
        lane = self._lanes[stream]
        if since < lane.end:
            with lane.view(since, lane.end) as view:
                self._tap(stream, view)

    def _take(self, stream: StreamType, *, final: bool) -> None:
        """Decide about what was read, and spool the full chunks; at the *final* one everything."""
        self._streams[stream].look(final=final)
        self._spool_chunks(stream, at_least=1 if final else self._flush_bytes, final=final)

    def _flush(self, now: float) -> None:
        is_pending = any(stream.is_pending for stream in self._streams.values())
        if not is_pending or now - self._flushed_at < self._flush_interval_s:
            return
        for stream in STREAMS:
            self._spool_chunks(stream)
        self._flushed_at = now  # also when a split sequence has to wait for its end

    def _spool_chunks(self, stream: StreamType, *, at_least: int = 1, final: bool = False) -> None:
        if self._streams[stream].pending_bytes < at_least:
            return
        chunks = self._streams[stream].take(at_least=at_least, final=final)
        if stream is StreamType.STDERR:
            for pieces, _ in chunks:
                tail = b"".join([self._stderr_tail, *(piece[-_TAIL_BYTES:] for piece in pieces)])
                self._stderr_tail = tail[-_TAIL_BYTES:]
        self._spool.append(stream, chunks)
        self._flushed_at = self._clock()


@contextmanager
def _bell() -> Iterator[tuple[int, list[int]]]:
    """Make a descriptor that becomes readable when the one in the list is taken out and closed."""
    heard, ring = os.pipe()
    rings = [ring]
    try:
        yield heard, rings
    finally:
        os.close(heard)
        for descriptor in rings:
            os.close(descriptor)


async def _ring_at(event: anyio.Event, rings: list[int]) -> None:
    await event.wait()
    os.close(rings.pop())


def _prepare(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with suppress(OSError):  # not Linux, or the user has too many large pipes: it works as it is
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _unread_bytes(descriptor: int) -> int:
    count = array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]
