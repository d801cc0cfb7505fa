"""One file of a spool: a header, then records, each with its checksum.

Written by ``pwritev`` straight from the caller's views. What a killed process leaves is whole
records and at most one torn one at the end; :meth:`Segment.load` cuts there, at the first record
that does not check. A file whose records are all delivered is used again, which spares the kernel
the work of finding new pages: what is left of its old records has old ordinals and does not check.

A *mark* is a segment of a single record which says what was left out at its place, and is replaced
as a whole when more is.

File: ``<8sIIQIQII`` (magic, attempt, ordinal of the first record, raw offset and masked bytes of
stdout and of stderr at its beginning, crc32), then records: ``<IIQIIIB3x`` (crc32 of the rest,
bytes of text, raw offset behind it, masked bytes, attempt, ordinal, stream) and the text.
"""

import errno
import os
import struct
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tendril_rt.errors import SpoolError
from tendril_rt.model import StreamType

Buffer = bytes | bytearray | memoryview

STREAMS = tuple(StreamType)
SUFFIX = ".log"
_MAGIC = b"tendril1"
_FILE = struct.Struct("<8sIIQIQII")
_RECORD = struct.Struct("<IIQIIIB3x")
_CRC_BYTES = 4
_CRC = struct.Struct("<I")
_NUMBERS = {stream: number for number, stream in enumerate(STREAMS)}
_MAX_PIECES = 1000  # the kernel takes 1,024 in one call
_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class Progress(NamedTuple):  # made per chunk: a dataclass costs three times as much
    """How far a stream has come.

    :ivar raw_offset: behind the last raw byte that the spool covers
    :ivar masked_bytes: so many raw bytes from there on belong to a mask that was written already
    """

    raw_offset: int = 0
    masked_bytes: int = 0


Progresses = Mapping[StreamType, Progress]
#: A chunk as pieces of other buffers, with the progress of its stream behind it.
Piecewise = tuple[Sequence[Buffer], Progress]


class Record(NamedTuple):
    """One chunk as it stands in a segment; *raw* is valid as long as the buffer it was read into.

    :ivar progress: of its stream; for a mark, the bytes and the records that were left out
    """

    stream: StreamType
    progress: Progress
    raw: memoryview


class Segment:
    """An open file of a spool; whoever made it closes it.

    :ivar first: ordinal of the first record: its place among all that were ever appended
    :ivar end: size of the file in bytes
    """

    def __init__(self, path: Path, descriptor: int, attempt: int, first: int) -> None:
        self.path = path
        self.first = first
        self.end = _FILE.size
        self.left_out: Progress | None = None  # of a mark: bytes of text, and records
        self._descriptor = descriptor
        self._attempt = attempt
        self._positions = array("I")

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def next_ordinal(self) -> int:
        """The ordinal of the record that follows the last one, or what a mark stands for."""
        return self.first + (self.left_out.masked_bytes if self.left_out else len(self))

    @property
    def text_bytes(self) -> int:
        return self.end - _FILE.size - len(self) * _RECORD.size

    @classmethod
    def create(
        cls, folder: Path, attempt: int, first: int, progress: Progresses, spare: Path | None = None
    ) -> "Segment":
        """Make a file, out of *spare* if there is one.

        :raises OSError: the disk refuses
        """
        path = folder / f"{first:012d}{SUFFIX}"
        if spare:
            spare.rename(path)
        descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o600)
        try:
            _write_all(descriptor, [_file_header(attempt, first, progress)], 0, _FILE.size)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return cls(path, descriptor, attempt, first)

    @classmethod
    def mark(
        cls, folder: Path, attempt: int, first: int, left_out: Progress, text: bytes
    ) -> "Segment":
        """Put a mark in the place of the file (a mark or not) that begins with *first*.

        :raises OSError: the disk refuses; what was there is still there
        """
        path, made = folder / f"{first:012d}{SUFFIX}", folder / "mark"
        descriptor = os.open(made, _FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        segment = cls(path, descriptor, attempt, first)
        try:
            _write_all(descriptor, [_file_header(attempt, first, {})], 0, _FILE.size)
            segment.append(StreamType.SYSTEM, [([text], left_out)])
            made.rename(path)
        except OSError:
            os.close(descriptor)
            raise
        segment.left_out = left_out
        return segment

    @classmethod
    def load(cls, path: Path, attempt: int) -> "tuple[Segment, dict[StreamType, Progress]]":
        """Open a file that another process left; cut it at the first record that does not check.

        Return it with the progress at its end.

        :raises SpoolError: not even its header is
        :raises OSError: it cannot be read
        """
        descriptor = os.open(path, _FLAGS)
        try:
            data = memoryview(path.read_bytes())
            first, progress = _read_header(path, data, attempt)
            segment = cls(path, descriptor, attempt, first)
            while record := _record_at(data, segment.end, attempt, first + len(segment)):
                segment._positions.append(segment.end)
                segment.end += _RECORD.size + len(record.raw)
                if record.stream is not StreamType.SYSTEM:
                    progress[record.stream] = record.progress
                elif record.progress.masked_bytes:
                    segment.left_out = record.progress
            os.ftruncate(descriptor, segment.end)
        except BaseException:
            os.close(descriptor)
            raise
        return segment, progress

    def append(self, stream: StreamType, chunks: Sequence[Piecewise]) -> int:
        """Write a record for each of *chunks* at once, from where its pieces are; return the size.

        :raises OSError: the disk refuses; the file is as before
        """
        vector: list[Buffer] = []
        end, sizes = self.end, array("I")
        for ordinal, (pieces, progress) in enumerate(chunks, self.first + len(self)):
            size = sum(map(len, pieces))
            header = bytearray(_RECORD.size)
            _RECORD.pack_into(
                header, 0, 0, size, *progress, self._attempt, ordinal, _NUMBERS[stream]
            )
            crc = zlib.crc32(memoryview(header)[_CRC_BYTES:])
            for piece in pieces:
                crc = zlib.crc32(piece, crc)
            _CRC.pack_into(header, 0, crc)
            vector.append(header)
            vector += pieces
            sizes.append(end)
            end += _RECORD.size + size
        try:
            _write_all(self._descriptor, vector, self.end, end - self.end)
        except OSError:
            os.ftruncate(self._descriptor, self.end)
            raise
        self._positions += sizes
        written, self.end = end - self.end, end
        return written

    def fit(self, index: int, count: int, size: int) -> tuple[int, int]:
        """Return where the records from *index* on begin and end that fit into *size* bytes.

        At most *count* of them and at least one.
        """
        begin, last = self._positions[index], index + 1
        while last < len(self) and last - index < count and self._end_of(last) - begin <= size:
            last += 1
        return begin, self._end_of(last - 1)

    def read(self, index: int, begin: int, end: int, into: memoryview) -> list[Record]:
        """Read the records between two positions, from *index* on, into a buffer of that size.

        :raises SpoolError: the file has changed under our feet
        """
        size = os.preadv(self._descriptor, [into[: end - begin]], begin)
        records: list[Record] = []
        position, data = 0, into[:size]
        while position < end - begin:
            ordinal = self.first + index + len(records)
            record = _record_at(data, position, self._attempt, ordinal, check=False)
            if record is None:
                raise SpoolError(f"{self.path} has been damaged at byte {begin + position}")
            records.append(record)
            position += _RECORD.size + len(record.raw)
        return records

    def duplicate(self) -> int:
        """Return a descriptor of the file that stays good whatever becomes of the segment."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def remove(self, *, spare: Path | None = None) -> None:
        """Close and delete it, or make it *spare*."""
        self.close()
        if spare:
            self.path.rename(spare)
        else:
            self.path.unlink(missing_ok=True)

    def _end_of(self, index: int) -> int:
        return self._positions[index + 1] if index + 1 < len(self) else self.end


def _file_header(attempt: int, first: int, progress: Progresses) -> bytes:
    out = progress.get(StreamType.STDOUT, Progress())
    err = progress.get(StreamType.STDERR, Progress())
    numbers = (out.raw_offset, out.masked_bytes, err.raw_offset, err.masked_bytes)
    header = _FILE.pack(_MAGIC, attempt, first, *numbers, 0)[:-_CRC_BYTES]
    return header + zlib.crc32(header).to_bytes(_CRC_BYTES, "little")


def _read_header(
    path: Path, data: memoryview, attempt: int
) -> tuple[int, dict[StreamType, Progress]]:
    if len(data) >= _FILE.size:
        magic, owner, first, *numbers, crc = _FILE.unpack_from(data)
        is_whole = crc == zlib.crc32(data[: _FILE.size - _CRC_BYTES])
        if is_whole and magic == _MAGIC and owner == attempt and path.stem == f"{first:012d}":
            return first, {
                StreamType.STDOUT: Progress(*numbers[:2]),
                StreamType.STDERR: Progress(*numbers[2:]),
            }
    raise SpoolError(f"{path} is not a segment of attempt {attempt}")


def _record_at(
    data: memoryview, position: int, attempt: int, ordinal: int, *, check: bool = True
) -> Record | None:
    """Return the record at *position*; None if there is no whole and right one."""
    begin = position + _RECORD.size
    if begin > len(data):
        return None
    crc, size, raw_offset, masked, *whose, stream = _RECORD.unpack_from(data, position)
    end = begin + size
    if end > len(data) or whose != [attempt, ordinal] or stream >= len(STREAMS):
        return None
    if check and zlib.crc32(data[position + _CRC_BYTES : end]) != crc:
        return None
    return Record(STREAMS[stream], Progress(raw_offset, masked), data[begin:end])


def _write_all(descriptor: int, pieces: list[Buffer], position: int, size: int) -> None:
    """:raises OSError: not all of it was taken"""
    if len(pieces) > _MAX_PIECES:  # full of masks, so it is worth a copy
        pieces = [b"".join(pieces)]
    if os.pwritev(descriptor, pieces, position) != size:
        raise OSError(errno.ENOSPC, "the disk filled up in the middle of a record")
