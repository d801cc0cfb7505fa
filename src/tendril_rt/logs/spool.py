"""An attempt's log on disk: append-only records, numbered, readable while it grows.

Between Terraform and the network: the reader appends and never waits for the network, the shipper
reads at its own pace, and memory stays bounded however far it falls behind. Records live in the
page cache as soon as they are written, so a killed agent loses none.

A write that fails (disk full) never reaches Terraform: what could not be kept is counted, and the
next chunk that can be written is preceded by a SYSTEM line saying how much is missing.

Format of a record: ``<IQBI`` (seq, byte offset, stream, length), then the text.
"""

import logging
import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import SpoolError
from tendril_rt.logs.cut import clean
from tendril_rt.model import Chunk, StreamType

_HEADER = struct.Struct("<IQBI")
_STREAMS = tuple(StreamType)
_SYSTEM_LINE_CHARACTERS = 8192  # as much as the control plane keeps of an error message

_log = logging.getLogger(__name__)


class Spool:
    """One attempt's log; see :func:`create`. Written by one reader, read by one shipper.

    :ivar lost_bytes: of output that the disk refused, all together
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._positions = array("Q")  # where each record starts, by seq
        self._end = 0
        self._byte_offset = 0
        self._lost_bytes = 0  # since the last loss notice
        self.lost_bytes = 0
        self.is_closed = False
        self.grown = Wakeup()

    @property
    def path(self) -> Path:
        return self._path

    @property
    def next_seq(self) -> int:
        """The number that the next chunk will get; so also how many there are."""
        return len(self._positions)

    def append(self, stream: StreamType, raw: bytes | bytearray | memoryview) -> None:
        """Add one chunk. Copies *raw*; never raises for a disk that refuses.

        Invalid UTF-8 becomes U+FFFD and NUL is dropped here, so that offsets count stored bytes.
        """
        if self._lost_bytes and not self._write(StreamType.SYSTEM, self._loss_notice()):
            self._lose(len(raw))
            return
        self._lost_bytes = 0
        text = clean(raw)
        if text and not self._write(stream, text):
            self._lose(len(raw))

    def system(self, line: str) -> None:
        """Add a line of the agent itself; the end of a very long one is left out."""
        self.append(StreamType.SYSTEM, f"{line[:_SYSTEM_LINE_CHARACTERS]}\n".encode())

    def close(self) -> None:
        """Say that nothing will be appended any more; the shipper may come to its end."""
        self.is_closed = True
        self.grown.set()

    def read(self, first_seq: int, *, max_bytes: int, max_chunks: int) -> list[Chunk]:
        """Return consecutive chunks from *first_seq*: at least one if there is one.

        The chunks' views are valid for as long as the caller holds them.
        """
        if first_seq >= self.next_seq:
            return []
        last = first_seq + 1
        start = self._positions[first_seq]
        end = min(self.next_seq, first_seq + max_chunks)
        while last < end and self._record_end(last) - start <= max_bytes:
            last += 1
        data = memoryview(os.pread(self._descriptor, self._record_end(last - 1) - start, start))
        return [self._record(data, self._positions[seq] - start) for seq in range(first_seq, last)]

    def _record_end(self, seq: int) -> int:
        return self._positions[seq + 1] if seq + 1 < self.next_seq else self._end

    @staticmethod
    def _record(data: memoryview, position: int) -> Chunk:
        seq, byte_offset, stream, length = _HEADER.unpack_from(data, position)
        begin = position + _HEADER.size
        return Chunk(seq, byte_offset, _STREAMS[stream], data[begin : begin + length])

    def _write(self, stream: StreamType, text: bytes) -> bool:
        header = _HEADER.pack(self.next_seq, self._byte_offset, _STREAMS.index(stream), len(text))
        size = len(header) + len(text)
        try:
            written = os.writev(self._descriptor, [header, text])
            if written != size:  # the disk filled up in the middle of the record
                os.ftruncate(self._descriptor, self._end)
        except OSError as exc:
            written, reason = -1, str(exc)
        else:
            reason = f"{written} of {size} bytes written"
        if written != size:
            if not self._lost_bytes:
                _log.error("cannot write %s (%s): output is being lost", self._path, reason)
            return False
        self._positions.append(self._end)
        self._end += size
        self._byte_offset += len(text)
        self.grown.set()
        return True

    def _lose(self, count: int) -> None:
        self._lost_bytes += count
        self.lost_bytes += count

    def _loss_notice(self) -> bytes:
        return f"[{self._lost_bytes} bytes of output are missing: the disk was full]\n".encode()


@contextmanager
def create(path: Path) -> Iterator[Spool]:
    """Open a new spool at *path* (mode 0600, its folder must exist); an older one is replaced.

    The file stays when the block ends: :func:`discard` it once everything is delivered.

    :raises SpoolError: it cannot be created
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as exc:
        raise SpoolError(
            f"the agent cannot keep a log in {path}: {exc.strerror or exc}. Check the permissions "
            "and the free space of TENDRIL_STATE_DIR"
        ) from exc
    try:
        yield Spool(path, descriptor)
    finally:
        os.close(descriptor)


def discard(spool: Spool) -> None:
    """Remove the file of a spool whose every chunk is stored by the control plane."""
    spool.path.unlink(missing_ok=True)
