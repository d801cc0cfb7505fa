"""How far a spool is delivered, on disk: two places in one small file, written in turn.

A torn write leaves the other place good, which costs a few chunks that are sent again and skipped.
"""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

_PLACE = struct.Struct("<IIIQ")  # turn, seq, ordinal, byte offset; then a crc32
_CRC = struct.Struct("<I")
_APART_BYTES = 512  # not in one sector


@dataclass(frozen=True, slots=True)
class Acked:
    """The end of what is delivered.

    :ivar seq: the first chunk that is not
    :ivar ordinal: of its record, see ``spool.py``
    :ivar byte_offset: bytes of text in all chunks before it
    """

    seq: int = 0
    ordinal: int = 0
    byte_offset: int = 0


class AckedFile:
    """The file ``acked`` of the spool in *folder*."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(folder / "acked", flags, 0o600)
        self._turn = 0

    def read(self) -> Acked:
        """Return what was written last; the beginning if nothing was."""
        newest = Acked()
        for place in (0, 1):
            raw = os.pread(self._descriptor, _PLACE.size + _CRC.size, place * _APART_BYTES)
            if len(raw) < _PLACE.size + _CRC.size or not any(raw):
                continue
            turn, *values = _PLACE.unpack_from(raw)
            if _CRC.unpack_from(raw, _PLACE.size)[0] == zlib.crc32(raw[: _PLACE.size]) and (
                turn > self._turn
            ):
                self._turn, newest = turn, Acked(*values)
        return newest

    def write(self, acked: Acked) -> None:
        """Note it; never raises for a disk that refuses: at worst chunks are sent twice."""
        self._turn += 1
        raw = _PLACE.pack(self._turn, acked.seq, acked.ordinal, acked.byte_offset)
        try:
            place = self._turn % 2 * _APART_BYTES
            os.pwrite(self._descriptor, raw + _CRC.pack(zlib.crc32(raw)), place)
        except OSError:
            self._turn -= 1

    def close(self) -> None:
        os.close(self._descriptor)
