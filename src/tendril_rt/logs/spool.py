"""An attempt's log on disk: numbered, readable while it grows, kept until it is delivered.

Between Terraform and the network: the reader appends and never waits for the network, the shipper
reads at its own pace, and memory stays bounded however far it falls behind.

A spool is a folder: ``about.json`` (whose log), segments named by the ordinal of their first record
(``segment.py``), and ``acked`` (how far it is delivered). Segments that are delivered are deleted.
Records are in the page cache as soon as they are written, so a killed agent loses none; the disk
itself is told to keep them at the end of each step (:meth:`Spool.sync`). A host that crashes kills
Terraform too and so has nothing to resume: it costs what the kernel had not written back and the
shipper had not sent, which is rarely more than half a second of output, and a sync per record would
cost every run milliseconds per chunk.

``seq`` is a chunk's place among all that are kept, so that numbers never have holes: where a spool
outgrows its limit, segments in the middle (behind what may be on its way) give way to one SYSTEM
chunk that says how much is missing. Ordinals, in contrast, never change.

A disk that refuses never reaches Terraform: what could not be kept is counted, and the next chunk
that can be written is preceded by a SYSTEM line saying how much is missing.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import SpoolError
from tendril_rt.logs import folders
from tendril_rt.logs.acked import Acked, AckedFile
from tendril_rt.logs.segment import Piecewise, Progress, Record
from tendril_rt.logs.segments import Limits, Segments
from tendril_rt.model import Chunk, Lease, StreamType

_READ_BYTES = 256 * 1024
_SYSTEM_LINE_CHARACTERS = 8192  # as much as the control plane keeps of an error message
_ESCAPE_COST = 5  # ESC is six bytes in JSON

_log = logging.getLogger(__name__)


class Spool:
    """One attempt's log; see :func:`create` and :func:`reopen`. One reader, one shipper.

    :ivar lease: whose log it is
    :ivar progress: of each stream, how much of it is in the spool (or lost); a reader goes on there
    :ivar decoded_bytes: how many bytes were decoded so far, each chunk once unless it is sent again
    :ivar appended_bytes: how many bytes of text were written so far, by this process
    """

    def __init__(self, folder: Path, lease: Lease, limits: Limits) -> None:
        self.folder = folder
        self.lease = lease
        self.progress = {StreamType.STDOUT: Progress(), StreamType.STDERR: Progress()}
        self.decoded_bytes = 0
        self.appended_bytes = 0
        self.is_closed = False
        self.grown = Wakeup()
        self._segments = Segments(folder, lease.attempt, limits)
        self._base_seq = 0  # of the first record that is kept
        self._refused_bytes = 0
        self._unsaid_bytes = 0  # of those, since the last notice
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._acked_file = AckedFile(folder)
        self._acked = Acked()
        self._known = (0, 0)  # a seq, and the bytes of text in all chunks before it

    @property
    def next_seq(self) -> int:
        """How many chunks there are, so also the next number."""
        return self._base_seq + len(self._segments)

    @property
    def lost_bytes(self) -> int:
        """Output that was refused by the disk or left out for the limit, all together."""
        return self._refused_bytes + self._segments.left_out_bytes

    @property
    def acked(self) -> int:
        """All chunks before this one are stored by the control plane."""
        return self._acked.seq

    def append(self, stream: StreamType, chunks: Sequence[Piecewise]) -> None:
        """Add chunks made of pieces without NUL, which are written from where they are, at once.

        Never raises for a disk that refuses.
        """
        size = sum(len(piece) for pieces, _ in chunks for piece in pieces)
        if size:
            self._append(stream, chunks, size)
        if chunks and stream in self.progress:
            self.progress[stream] = chunks[-1][1]

    def _append(self, stream: StreamType, chunks: Sequence[Piecewise], size: int) -> None:
        if self._unsaid_bytes:
            notice = f"[{self._unsaid_bytes} bytes of output are missing: the disk was full]\n"
            said = [([notice.encode()], Progress())]
            if not self._write(StreamType.SYSTEM, said, len(notice)):
                self.lose(size)
                return
            self._unsaid_bytes = 0
        if not self._write(stream, chunks, size):
            self.lose(size)

    def system(self, line: str) -> None:
        """Add a line of the agent itself; the end of a very long one is left out."""
        text = line[:_SYSTEM_LINE_CHARACTERS].replace("\0", "")
        raw = f"{text}\n".encode(errors="replace")
        self.append(StreamType.SYSTEM, [([raw], Progress())])

    def lose(self, count: int) -> None:
        """Count output that could not be kept; it is said with the next chunk that can."""
        self._unsaid_bytes += count
        self._refused_bytes += count

    def close(self) -> None:
        """Say that nothing will be appended any more; the shipper may come to its end."""
        self.is_closed = True
        self.grown.set()

    def read(self, first_seq: int, *, max_bytes: int, max_chunks: int) -> list[Chunk]:
        """Return consecutive chunks from *first_seq*: at least one if there is one.

        The one decode of each chunk happens here. Invalid UTF-8 becomes U+FFFD.

        :param max_bytes: of text as it is encoded in JSON (escapes other than ANSI's not counted)
        :raises SpoolError: the disk does not give back what it took
        """
        if first_seq >= self.next_seq:
            return []
        offset = self._offset_at(first_seq)
        chunks: list[Chunk] = []
        cost = 0
        for record in self._records(first_seq, max_chunks, max_bytes):
            text, size = _decoded(record), len(record.raw)
            cost += size
            if "\x1b" in text:  # counting alone would look at each character
                cost += _ESCAPE_COST * text.count("\x1b")
            if chunks and cost > max_bytes:
                break
            self.decoded_bytes += size
            chunks.append(Chunk(first_seq + len(chunks), offset, record.stream, text))
            offset += _stored_bytes(record, text)
        self._known = (first_seq + len(chunks), offset)
        return chunks

    def acknowledge(self, next_seq: int) -> None:
        """Note that the control plane has all chunks before *next_seq*; forget them.

        A lower one than before rewinds, as far as chunks are still kept.

        :raises SpoolError: those that it lacks are kept no more
        """
        if not self._base_seq <= next_seq <= self.next_seq:
            raise SpoolError(
                f"the control plane has the log of {self.lease.provision_id} up to chunk "
                f"{next_seq}, but the spool keeps {self._base_seq} to {self.next_seq} only: was "
                "its database restored from an older copy?"
            )
        offset = self._offset_at(next_seq)
        self._known = (next_seq, offset)
        index = next_seq - self._base_seq
        self._acked = Acked(next_seq, self._segments.ordinal_of(index), offset)
        self._acked_file.write(self._acked)
        self._base_seq += self._segments.drop_before(index)

    async def sync(self) -> None:
        """Have the disk keep what was written, should the host fail; waits in a worker thread.

        Cancellation: the sync goes on in its thread. Never raises for a disk that refuses.
        """
        await anyio.to_thread.run_sync(_sync_and_close, self._segments.descriptors())

    def load(self) -> None:
        """Take up what another process left; for :func:`reopen`.

        :raises OSError: it cannot be read
        """
        self._acked = self._acked_file.read()
        self._known = (self._acked.seq, self._acked.byte_offset)
        lost = self._segments.load(self._acked.ordinal, self.progress)
        self._base_seq = self._acked.seq - self._segments.count_before(self._acked.ordinal)
        if lost:
            self.lose(lost)

    def release(self) -> None:
        """Close the files; what they hold stays."""
        self._segments.close()
        self._acked_file.close()

    def _records(self, seq: int, count: int, size: int) -> list[Record]:
        """Read records of one segment; their bytes are valid until the next call."""
        segment, index = self._segments.locate(seq - self._base_seq)
        begin, end = segment.fit(index, count, min(size, _READ_BYTES))
        if end - begin > len(self._buffer):
            self._buffer = memoryview(bytearray(end - begin))
        return segment.read(index, begin, end, self._buffer)

    def _offset_at(self, seq: int) -> int:
        """Return how many bytes of text are stored for all chunks before *seq*."""
        at, offset = self._known
        sign, position, end = (1, at, seq) if seq > at else (-1, seq, at)
        while position < end:
            for record in self._records(position, end - position, _READ_BYTES):
                offset += sign * _stored_bytes(record, _decoded(record))
                position += 1
        return offset

    def _write(self, stream: StreamType, chunks: Sequence[Piecewise], size: int) -> bool:
        left_out_bytes = self._segments.left_out_bytes
        has_room = self._segments.make_room(size)
        if self._segments.left_out_bytes != left_out_bytes:  # later chunks have other numbers now
            self._known = (self._acked.seq, self._acked.byte_offset)
        if not has_room:
            self._say_lost("the spools are full: see TENDRIL_SPOOL_MAX_BYTES")
            return False
        try:
            self._segments.append(stream, chunks, self.progress)
        except OSError as exc:
            self._say_lost(str(exc))
            return False
        self.appended_bytes += size
        self.grown.set()
        return True

    def _say_lost(self, why: str) -> None:
        if not self._unsaid_bytes:
            _log.error("cannot write to %s (%s): output is being lost", self.folder, why)


@contextmanager
def create(folder: Path, lease: Lease, limits: Limits) -> Iterator[Spool]:
    """Open a new spool in *folder* (0700, its parent must exist); an older one is replaced.

    The folder stays when the block ends: ``folders.discard`` it once everything is delivered.

    :raises SpoolError: it cannot be created
    """
    try:
        folders.make(folder, lease)
        spool = Spool(folder, lease, limits)
    except OSError as exc:
        raise SpoolError(
            f"the agent cannot keep a log in {folder}: {exc.strerror or exc}. Check the "
            "permissions and the free space of TENDRIL_STATE_DIR"
        ) from exc
    try:
        yield spool
    finally:
        spool.release()


@contextmanager
def reopen(folder: Path, limits: Limits) -> Iterator[Spool]:
    """Open a spool that another process left, to append to it and to deliver it.

    :raises SpoolError: there is none, or it cannot be read
    """
    try:
        spool = Spool(folder, folders.lease_of(folder), limits)
        spool.load()
    except OSError as exc:
        raise SpoolError(f"cannot read the spool {folder}: {exc.strerror or exc}") from exc
    try:
        yield spool
    finally:
        spool.release()


def _decoded(record: Record) -> str:
    return str(record.raw, "utf-8", "replace")


def _stored_bytes(record: Record, text: str) -> int:
    """Return how many bytes of UTF-8 the control plane stores for a record."""
    # Without a replacement the text is the raw bytes; with one, its size has to be counted.
    return len(text.encode()) if "\ufffd" in text else len(record.raw)


def _sync_and_close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        try:
            os.fsync(descriptor)
        except OSError as exc:
            _log.warning("the disk did not confirm the spool: %s", exc)
        finally:
            os.close(descriptor)
