"""Where output lands on its way from the pipes to the spool: buffers that outlive the process.

``readv`` moves bytes from a pipe straight into a shared mapping of a small file. The page cache
keeps them when the process is killed, so whoever reopens the file has what was taken out of the
pipe and not yet spooled. Nothing is copied for that: the mapping *is* the read buffer.

The file holds raw output, before redaction, of at most its own size (2 MiB). So it lives beside
``terraform.tfvars.json``, with the same mode 0600 in the same private workspace, never in the state
directory, and goes with the workspace.

Each stream has a lane of two slots. What a slot holds follows from the slot alone: it was zeroed
before use and no NUL is ever kept in it (logs drop NUL anyway), so its content is all that is not
NUL, also after a kill between a ``readv`` and the line that would have counted it. A *raw offset*
is a position in a stream without its NULs, counted over the whole attempt; each slot says at which
one it begins, in words of 8 bytes that are stored at once. The lane changes slots by storing one
word, after the new slot is complete.

One corner remains. A fatal signal that strikes while ``readv`` itself waits for a page of the file
(which is under writeback at that moment) may leave up to one page of bytes in the slot that are
also still in the pipe: they would show twice. Blocks are allocated beforehand, so a full disk does
not matter here, except on file systems that move blocks on every write.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tendril_rt.errors import WorkspaceError
from tendril_rt.model import StreamType

FILE_NAME = "output.basin"
SLOT_BYTES = 512 * 1024
STREAMS = (StreamType.STDOUT, StreamType.STDERR)
_HEADER_BYTES = 4096
_LANE_WORDS = 4  # active slot, raw offset of slot 0, of slot 1, unused
SIZE_BYTES = _HEADER_BYTES + 2 * len(STREAMS) * SLOT_BYTES
_ZEROS = bytes(SLOT_BYTES)


class Lane:
    """One stream's buffer; positions are raw offsets of the stream.

    :ivar start: the first byte that is still needed; whoever spools bytes sets it
    :ivar end: behind the last byte that was read
    :ivar moved_bytes: how many bytes were copied in Python so far
    """

    def __init__(self, mapped: mmap.mmap, header: memoryview, index: int) -> None:
        self.buffer = mapped
        self._view = memoryview(mapped)
        self._words = header[index * _LANE_WORDS : (index + 1) * _LANE_WORDS]
        self._slots = tuple(_HEADER_BYTES + (2 * index + k) * SLOT_BYTES for k in (0, 1))
        self.moved_bytes = 0
        self.start = 0
        self._settle()
        slot = bytes(self._view[self._base : self._base + SLOT_BYTES])
        text = slot.replace(b"\0", b"")
        self.end = self.start
        if slot.startswith(text):
            self.end += len(text)
        else:  # NULs in a read that nobody came to look at
            self._move(self.start, text)

    def at(self, offset: int) -> int:
        """Return where in :attr:`buffer` the byte at *offset* is."""
        return self._base + offset - self._raw_start

    def view(self, start: int, end: int) -> memoryview:
        """Return the bytes between two offsets, valid until the next :meth:`read` or :meth:`turn`.

        The caller releases it, or drops it, before the basin is closed.
        """
        return self._view[self.at(start) : self.at(end)]

    @property
    def room_bytes(self) -> int:
        return self._base + SLOT_BYTES - self.at(self.end)

    def read(self, descriptor: int, at_most: int) -> int:
        """Read once, into the room that is left; return how many bytes came, 0 at the end.

        :raises BlockingIOError: nothing is there
        """
        begin = self.at(self.end)
        target = self._view[begin : begin + min(at_most, self.room_bytes)]
        count = os.readv(descriptor, [target])
        if self.buffer.find(b"\0", begin, begin + count) == -1:
            self.end += count
        else:  # rare, so it may cost a copy; never in place, where a kill would leave a mixture
            fresh = bytes(target[:count]).replace(b"\0", b"")
            self._move(self.start, fresh)
        return count

    def turn(self) -> None:
        """Change to the other slot, taking along what is still needed."""
        self._move(self.start, b"")

    def begin_at(self, offset: int) -> None:
        """Forget everything and go on at *offset*: the spool knows better than an empty basin."""
        self.end = self.start
        self._move(offset, b"")

    def _move(self, start: int, fresh: bytes) -> None:
        kept = self._view[self.at(start) : self.at(self.end)] if start < self.end else b""
        other = 1 - self._words[0]
        base, size = self._slots[other], len(kept) + len(fresh)
        self._view[base : base + SLOT_BYTES] = _ZEROS
        self._view[base : base + len(kept)] = kept
        self._view[base + len(kept) : base + size] = fresh
        self._words[1 + other] = start
        self._words[0] = other
        self._settle()
        self.start, self.end = start, start + size
        self.moved_bytes += size

    def _settle(self) -> None:
        active = self._words[0]
        self._base = self._slots[active]
        self.start = self._raw_start = self._words[1 + active]

    def close(self) -> None:
        self._view.release()
        self._words.release()


class Basin:
    """The lanes of one attempt; see :func:`create`."""

    def __init__(self, mapped: mmap.mmap) -> None:
        self._mapped = mapped
        self._header = memoryview(mapped)
        words = self._header[:_HEADER_BYTES].cast("Q")
        self.lanes = {stream: Lane(mapped, words, i) for i, stream in enumerate(STREAMS)}
        words.release()

    @property
    def moved_bytes(self) -> int:
        """How many bytes were copied in Python: tails taken from slot to slot, and NULs cut out."""
        return sum(lane.moved_bytes for lane in self.lanes.values())

    def close(self) -> None:
        """Let go of the mapping; views that somebody still holds keep it until they are dropped."""
        for lane in self.lanes.values():
            lane.close()
        self._header.release()
        try:
            self._mapped.close()
        except BufferError:  # a traceback under way holds a view: the mapping goes with it
            return


@contextmanager
def create(path: Path) -> Iterator[Basin]:
    """Make the file at *path*, in a private folder, and map it. It stays when the block ends.

    :raises WorkspaceError: it cannot be made, or the disk has no room for it
    """
    with _opened(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as basin:
        yield basin


@contextmanager
def reopen(path: Path) -> Iterator[Basin]:
    """Map the file that a killed process left at *path*, with what it had read and not spooled.

    :raises WorkspaceError: it is not there, or not whole
    """
    if not path.is_file() or path.stat().st_size != SIZE_BYTES:
        raise WorkspaceError(f"{path} is missing or not whole: what it held of the output is lost")
    with _opened(path, os.O_NOFOLLOW) as basin:
        yield basin


@contextmanager
def in_memory() -> Iterator[Basin]:
    """Open one without a file, for output that nobody could resume, such as that of a pipe."""
    basin = Basin(mmap.mmap(-1, SIZE_BYTES))
    try:
        yield basin
    finally:
        basin.close()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[Basin]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE_BYTES)  # a hole on a full disk is a SIGBUS
            mapped = mmap.mmap(descriptor, SIZE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise WorkspaceError(
            f"the agent cannot buffer output in {path}: {exc.strerror or exc}. Check the "
            "permissions and the free space of TENDRIL_WORKSPACE_DIR"
        ) from exc
    basin = Basin(mapped)
    try:
        yield basin
    finally:
        basin.close()
