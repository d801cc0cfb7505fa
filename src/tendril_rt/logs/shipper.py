"""From the spool to the control plane: batches in order, one request in flight, until acknowledged.

Invariants: chunks are sent in order of ``seq``; the control plane's ``next_seq`` alone says what is
stored; nothing is dropped because of a failure: 5xx, timeouts and refused keys are retried with
jitter for as long as the agent lives, a gap rewinds. Being fenced out ends it, with the spool kept.

Pace: the first bytes at once, then a call each 400 ms or 10 KB, whichever is first, and the end at
once. A short run says a dozen things of its own within a second, and a call for each of them costs
the control plane and this machine more than the run itself does. A line printed now and then is
not delayed, nor is a steady stream, which the reader cuts each 500 ms: at worst a line waits for
both, so less than a second.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from tendril_rt.aio.backoff import Backoff
from tendril_rt.errors import Unauthorized, Unavailable
from tendril_rt.logs.spool import Spool
from tendril_rt.model import Ack, Cancel, Chunk

MAX_BATCH_BYTES = 256 * 1024
MAX_BATCH_CHUNKS = 500  # the control plane takes at most 1,000 in one call
PACE_S = 0.4  # below the reader's interval, or a steady stream would wait for this one, too
PACE_BYTES = 10 * 1024

_log = logging.getLogger(__name__)


class ChunkSink(Protocol):
    """Where chunks go."""

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        """Store consecutive chunks; those that are stored already are skipped.

        :raises Unavailable: may be tried again
        :raises LeaseLost: a newer attempt exists
        """


class Shipper:
    """Delivers one spool.

    :param on_cancel: called whenever an answer says that the owner wants the run to stop
    :param pace_s: least time between the beginnings of two small calls, in seconds
    :param clock: seconds, for tests
    """

    def __init__(
        self,
        spool: Spool,
        sink: ChunkSink,
        *,
        on_cancel: Callable[[Cancel], None],
        backoff: Backoff | None = None,
        pace_s: float = PACE_S,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._on_cancel = on_cancel
        self._backoff = backoff or Backoff(0.5, 5.0)
        self._pace_s = pace_s
        self._clock = clock
        self._called_at = float("-inf")
        self._seen = spool.next_seq, spool.appended_bytes  # when it was read last

    @property
    def acked(self) -> int:
        """All chunks before this one are stored."""
        return self._spool.acked

    async def run(self) -> None:
        """Deliver until the spool is closed and all of it is acknowledged.

        Cancellation: safe; what was delivered stays delivered.

        :raises LeaseLost: fenced out; the spool holds what was not delivered
        :raises Rejected: the control plane refuses a chunk for good
        """
        while True:
            if self.acked == self._spool.next_seq:
                if self._spool.is_closed:
                    return
                await self._spool.grown.wait()
                continue
            await self._keep_pace()
            await self._deliver(self._next_batch())

    async def _keep_pace(self) -> None:
        """Wait until a call is due: for company, or for the end."""
        due_at = self._called_at + self._pace_s
        while not self._has_enough and (left_s := due_at - self._clock()) > 0:
            await self._spool.grown.wait(left_s)
        self._called_at = self._clock()

    @property
    def _has_enough(self) -> bool:
        """True if waiting would not help: behind, at the end, or a whole flush is there."""
        spool, (seq, size) = self._spool, self._seen
        return self.acked < seq or spool.is_closed or spool.appended_bytes - size >= PACE_BYTES

    def _next_batch(self) -> Sequence[Chunk]:
        spool = self._spool
        self._seen = spool.next_seq, spool.appended_bytes
        return spool.read(self.acked, max_bytes=MAX_BATCH_BYTES, max_chunks=MAX_BATCH_CHUNKS)

    async def _deliver(self, chunks: Sequence[Chunk]) -> None:
        try:
            ack = await self._sink.append_chunks(self.acked, chunks)
        except (Unavailable, Unauthorized) as exc:  # a key may be put right again
            delay_s = self._backoff.next_s()
            _log.warning(
                "logs wait in the spool from chunk %d: %s; next try in %.1f s",
                self.acked,
                exc,
                delay_s,
            )
            await anyio.sleep(delay_s)
            return
        self._backoff.reset()
        if not ack.accepted:
            _log.warning("logs: rewinding from chunk %d to %d", self.acked, ack.next_seq)
        self._spool.acknowledge(min(ack.next_seq, self._spool.next_seq))
        if ack.cancel is not Cancel.NONE:
            self._on_cancel(ack.cancel)
