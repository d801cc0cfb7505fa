"""One stream between the basin and the spool: what is decided, what is masked, what is due.

No I/O of its own. Chunks are views of the basin; only masks are put in, and only they are bytes
made in Python. All positions are raw offsets (``basin.py``).
"""

from collections import deque

from tendril_rt.logs.basin import Lane
from tendril_rt.logs.cut import cut_at
from tendril_rt.logs.redact import MASK, Redactor
from tendril_rt.logs.segment import Buffer, Piecewise, Progress


class Stream:
    """Output of one kind, in order.

    :param progress: what the spool covers already; the rest of the lane is taken from there
    :ivar lost_bytes: of output between what the spool covers and what the lane still has
    """

    def __init__(self, lane: Lane, redactor: Redactor, progress: Progress, limit: int) -> None:
        self._lane = lane
        self._redactor = redactor
        self._limit = limit
        covered = progress.raw_offset
        self.lost_bytes = max(0, lane.start - covered - progress.masked_bytes)
        if covered > lane.end:  # a new basin for an old spool
            lane.begin_at(covered)
        lane.start = max(covered, lane.start)
        self._decided = lane.start
        self._masked = deque[tuple[int, int]]()  # spans that begin at or behind lane.start
        self._masked_until = covered + progress.masked_bytes  # by a mask that was written before

    @property
    def is_pending(self) -> bool:
        """True if there are bytes that could be spooled: held back ones could not."""
        return self._lane.start < self._decided

    @property
    def pending_bytes(self) -> int:
        return self._decided - self._lane.start

    def look(self, *, final: bool) -> None:
        """Decide about what was read since."""
        lane, base = self._lane, self._decided
        with lane.view(base, lane.end) as window:
            scan = self._redactor.scan(window, final=final)
        self._decided = base + scan.decided
        for begin, end in scan.masked:
            self._mask(base + begin, base + end)

    def take(self, *, at_least: int = 1, final: bool = False) -> list[Piecewise]:
        """Return chunks while at least so many bytes are pending; valid until the next read.

        :param final: also take what looks like the start of a sequence
        """
        taken: list[Piecewise] = []
        while self.pending_bytes >= at_least:
            end = self._cut(final=final)
            if end == self._lane.start:
                break
            if pieces := self._pieces(end):
                taken.append((pieces, Progress(end, max(0, self._masked_until - end))))
            self._lane.start = end
        return taken

    def _mask(self, begin: int, end: int) -> None:
        if self._masked and begin < self._masked[-1][1]:
            begin, last_end = self._masked.pop()
            end = max(end, last_end)
        elif begin < self._masked_until:
            self._masked_until = max(end, self._masked_until)
            return
        self._masked.append((begin, end))

    def _cut(self, *, final: bool) -> int:
        lane = self._lane
        first, last = lane.at(lane.start), lane.at(self._decided)
        cut = cut_at(lane.buffer, first, last, self._limit)
        end = self._decided if final and cut == first else lane.start + cut - first
        for begin, masked_end in self._masked:  # never between a mask and what it stands for
            if begin >= end:
                break
            if end < masked_end:
                return begin if begin > lane.start else min(masked_end, self._decided)
        return end

    def _pieces(self, end: int) -> list[Buffer]:
        """Return what stands for the raw bytes up to *end*."""
        lane = self._lane
        position = max(lane.start, self._masked_until)
        pieces: list[Buffer] = []
        while self._masked and self._masked[0][0] < end:
            begin, masked_end = self._masked.popleft()
            if position < begin:
                pieces.append(lane.view(position, begin))
            pieces.append(MASK)
            position = self._masked_until = masked_end
        if position < end:
            pieces.append(lane.view(position, end))
        return pieces
