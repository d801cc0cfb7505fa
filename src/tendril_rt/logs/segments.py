"""The files of one spool, in order: a new one when one is full, a mark where some are left out.

Owns the room they take. What is dropped lies behind the first half of the room, so never within
what a shipper may have sent and not seen acknowledged (a batch).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.errors import SpoolError
from tendril_rt.logs.segment import SUFFIX, Piecewise, Progress, Progresses, Segment
from tendril_rt.model import StreamType

_SEGMENT_BYTES = 4 * 1024 * 1024
_AT_LEAST = 16  # segments in a full spool, so that what is left out is a small part

_log = logging.getLogger(__name__)


class Allowance:
    """The room that all spools of one agent share.

    :param limit_bytes: on disk, all together
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def has_room(self, size: int) -> bool:
        return self.used_bytes + size <= self.limit_bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a spool may keep of what is not delivered yet.

    :ivar max_bytes: on disk, for this spool; at least 1 MiB
    :ivar allowance: for all of them
    """

    max_bytes: int
    allowance: Allowance

    @property
    def segment_bytes(self) -> int:
        return min(_SEGMENT_BYTES, self.max_bytes // _AT_LEAST)


class Segments:
    """The segments in *folder*.

    :ivar next_ordinal: what the next record will have
    :ivar left_out_bytes: of text, because there was no room
    """

    def __init__(self, folder: Path, attempt: int, limits: Limits) -> None:
        self.next_ordinal = 0
        self.left_out_bytes = 0
        self._folder = folder
        self._attempt = attempt
        self._limits = limits
        self._all: list[Segment] = []
        self._count = 0
        self._size = 0
        self._unsynced: list[Segment] = []
        self._spare = folder / "spare"
        self._has_spare = False

    def __len__(self) -> int:
        """How many records there are."""
        return self._count

    def locate(self, index: int) -> tuple[Segment, int]:
        """Return where the record with this place among all is: in which segment, and where there.

        :raises SpoolError: there are not so many
        """
        for segment in self._all:
            if index < len(segment):
                return segment, index
            index -= len(segment)
        raise SpoolError(f"{self._folder} has no such record")

    def ordinal_of(self, index: int) -> int:
        if index == self._count:
            return self.next_ordinal
        segment, place = self.locate(index)
        return segment.first + place

    def append(self, stream: StreamType, chunks: Sequence[Piecewise], reached: Progresses) -> None:
        """Write a record for each of *chunks*, into one segment.

        :param reached: the progress of every stream, for the header of a new segment
        :raises OSError: the disk refuses; all is as before
        """
        last = self._all[-1] if self._all else None
        if last is None or last.left_out or last.end >= self._limits.segment_bytes:
            spare = self._spare if self._has_spare else None
            self._has_spare = False
            last = Segment.create(self._folder, self._attempt, self.next_ordinal, reached, spare)
            self._add(last)
        self._resize(last.append(stream, chunks))
        self._count += len(chunks)
        self.next_ordinal += len(chunks)

    def make_room(self, size: int) -> bool:
        """Leave out older records until *size* bytes fit; False if they cannot."""
        limits = self._limits
        while self._size + size > limits.max_bytes or not limits.allowance.has_room(size):
            if not self._leave_one_out():
                return False
        return True

    def drop_before(self, index: int) -> int:
        """Remove the segments whose records all come before *index*; return how many records."""
        dropped = 0
        while len(self._all) > 1 and dropped + len(self._all[0]) <= index:
            dropped += len(self._all[0])
            self._remove(self._all[0], recycle=not self._has_spare)
        return dropped

    def descriptors(self) -> list[int]:
        """Return new descriptors of all that was written since the last call; the caller syncs
        and closes them.
        """
        found = [segment.duplicate() for segment in self._unsynced]
        self._unsynced = self._all[-1:]
        return [*found, os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]

    def load(self, acked_ordinal: int, progress: dict[StreamType, Progress]) -> int:
        """Take up what another process left; return how many bytes of it had to be given up.

        Sets *progress* to what the segments cover. Torn ends are cut off.
        """
        self._spare.unlink(missing_ok=True)
        lost = 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            ordinal = int(path.stem)
            if not self._all and ordinal <= acked_ordinal:
                self.next_ordinal = ordinal  # what came before it is delivered
            if ordinal == self.next_ordinal and self._load_one(path, progress):
                continue
            if ordinal > self.next_ordinal:  # behind a record that a crashed host tore
                lost += path.stat().st_size
            path.unlink()  # or it had been left out already, and the process killed before this
        if self.next_ordinal < acked_ordinal:  # a crashed host lost what had been delivered
            for segment in tuple(self._all):
                self._remove(segment)
            self.next_ordinal = acked_ordinal
        return lost

    def count_before(self, ordinal: int) -> int:
        return sum(min(len(each), max(0, ordinal - each.first)) for each in self._all)

    def close(self) -> None:
        """Close the files; what they hold stays."""
        for segment in self._all:
            segment.close()
        self._limits.allowance.used_bytes -= self._size
        if self._has_spare:
            self._spare.unlink(missing_ok=True)

    def _load_one(self, path: Path, progress: dict[StreamType, Progress]) -> bool:
        try:
            segment, reached = Segment.load(path, self._attempt)
        except SpoolError as exc:
            _log.warning("%s", exc)  # killed before its header was written
            return False
        self._add(segment)
        self._count += len(segment)
        self.next_ordinal = segment.next_ordinal
        for stream, at_end in reached.items():
            if at_end.raw_offset >= progress[stream].raw_offset:
                progress[stream] = at_end
        return True

    def _leave_one_out(self) -> bool:
        """Put a mark in the place of the oldest segment behind the first half of the room."""
        index = self._index_to_leave_out()
        if index is None:
            return False
        before, victim = self._all[index - 1 : index + 1]
        replaced = [before, victim] if before.left_out else [victim]
        count = before.left_out.raw_offset if before.left_out else 0
        first = replaced[0].first
        left_out = Progress(count + victim.text_bytes, victim.next_ordinal - first)
        text = (
            f"[{left_out.raw_offset} bytes of output are left out here: more than "
            "TENDRIL_SPOOL_MAX_BYTES were waiting for the control plane]\n"
        )
        try:
            mark = Segment.mark(self._folder, self._attempt, first, left_out, text.encode())
        except OSError as exc:
            _log.error("cannot write to %s: %s", self._folder, exc)
            return False
        self.left_out_bytes += victim.text_bytes
        self._all.insert(index + 1, mark)
        self._resize(mark.end)
        self._count += 1
        for segment in replaced:
            self._remove(segment, keep_file=segment.path == mark.path)
        return True

    def _index_to_leave_out(self) -> int | None:
        kept = 0
        for index, segment in enumerate(self._all[:-1]):
            if kept >= self._limits.max_bytes // 2 and not segment.left_out:
                return index
            kept += segment.end
        return None

    def _add(self, segment: Segment) -> None:
        self._all.append(segment)
        self._unsynced.append(segment)
        self._resize(segment.end)

    def _remove(self, segment: Segment, *, recycle: bool = False, keep_file: bool = False) -> None:
        self._all.remove(segment)
        self._count -= len(segment)
        self._resize(-segment.end)
        if segment in self._unsynced:
            self._unsynced.remove(segment)
        if keep_file:
            segment.close()
        else:
            segment.remove(spare=self._spare if recycle else None)
            self._has_spare = self._has_spare or recycle

    def _resize(self, change: int) -> None:
        self._size += change
        self._limits.allowance.used_bytes += change
