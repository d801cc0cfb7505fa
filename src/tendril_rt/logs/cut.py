"""Where a stream of output may be cut into chunks, and what may not stand in one.

Pure. A cut never falls inside a UTF-8 sequence or an ANSI escape, and prefers the end of a line.
"""

import re

#: An escape that has not ended may be held back for at most this many bytes.
_ESCAPE_REACH_BYTES = 64
_WHOLE_ESCAPE = re.compile(
    rb"\x1b(?:"
    rb"\[[0-?]*[ -/]*[@-~]"  # CSI
    rb"|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS, SOS, PM, APC, to their terminator
    rb"|[ -/]+[0-~]"  # nF, such as ESC ( B
    rb"|[^[\]PX^_ -/])"  # two bytes
)
_OPEN_STRING = re.compile(rb"\x1b[]PX^_][^\x07\x1b]*")


def cut_at(pending: bytes | bytearray, limit: int) -> int:
    """Return how many bytes of *pending* the next chunk takes.

    At most *limit*; up to the last newline in its second half if there is one, else up to a
    boundary. 0 means that *pending* holds nothing but the start of a sequence: wait for more, or
    take it all at the end of the stream.
    """
    end = min(len(pending), limit)
    if len(pending) > limit:
        newline = pending.rfind(b"\n", limit // 2, limit) + 1
        if newline:
            return newline
    end = _before_split_character(pending, end)
    end = _before_split_escape(pending, end)
    if end == 0 and len(pending) >= limit:  # one escape longer than a chunk: cut through it
        return _before_split_character(pending, limit) or limit
    return end


def clean(raw: bytes | bytearray | memoryview) -> bytes:
    """Return *raw* as text that Postgres can hold: U+FFFD for invalid bytes, NUL dropped."""
    data = bytes(raw)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        data = data.decode("utf-8", errors="replace").encode()
    return data.replace(b"\x00", b"") if b"\x00" in data else data


def _before_split_character(pending: bytes | bytearray, end: int) -> int:
    """Step back over a UTF-8 sequence that *end* would split or that has not all arrived."""
    for back in range(1, min(4, end) + 1):
        byte = pending[end - back]
        if byte & 0xC0 == 0x80:
            continue
        need = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return end - back if need > back else end
    return end


def _before_split_escape(pending: bytes | bytearray, end: int) -> int:
    """Step back over an escape that *end* would split or that has not all arrived."""
    reach = max(0, end - _ESCAPE_REACH_BYTES)
    start = pending.rfind(b"\x1b", reach, end)
    if start == -1:
        return end
    if start == end - 1:  # perhaps the first half of the terminator of a string
        opened = pending.rfind(b"\x1b", reach, start)
        if opened != -1 and _OPEN_STRING.fullmatch(pending, opened, start):
            return opened
    return end if _WHOLE_ESCAPE.match(pending, start, end) else start
