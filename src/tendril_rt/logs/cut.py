"""Where a stream of output may be cut into chunks.

Pure, and without copies: works on a region of whatever buffer the output lies in. A cut never falls
inside a UTF-8 sequence or an ANSI escape, and prefers the end of a line.
"""

import mmap
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

Text = bytes | bytearray | mmap.mmap


def cut_at(text: Text, start: int, end: int, limit: int) -> int:
    """Return where the next chunk of ``text[start:end]`` ends, which is pending.

    At most *limit* bytes on; at the last newline in its second half if more is pending and there is
    one, else at a boundary. *start* itself means that nothing is pending but the start of a
    sequence: wait for more, or take it all at the end of the stream.
    """
    size = end - start
    cut = start + min(size, limit)
    if size > limit:
        newline = text.rfind(b"\n", start + limit // 2, cut) + 1
        if newline:
            return newline
    cut = _before_split_character(text, start, cut)
    cut = _before_split_escape(text, start, cut)
    if cut == start and size >= limit:  # one escape longer than a chunk: cut through it
        whole = _before_split_character(text, start, start + limit)
        return whole if whole > start else start + limit
    return cut


def _before_split_character(text: Text, start: int, cut: int) -> int:
    """Step back over a UTF-8 sequence that *cut* would split or that has not all arrived."""
    for back in range(1, min(4, cut - start) + 1):
        byte = text[cut - back]
        if byte & 0xC0 == 0x80:
            continue
        need = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return cut - back if need > back else cut
    return cut


def _before_split_escape(text: Text, start: int, cut: int) -> int:
    """Step back over an escape that *cut* would split or that has not all arrived."""
    reach = max(start, cut - _ESCAPE_REACH_BYTES)
    escape = text.rfind(b"\x1b", reach, cut)
    if escape == -1:
        return cut
    if escape == cut - 1:  # perhaps the first half of the terminator of a string
        opened = text.rfind(b"\x1b", reach, escape)
        if opened != -1 and _OPEN_STRING.fullmatch(text, opened, escape):
            return opened
    return cut if _WHOLE_ESCAPE.match(text, escape, cut) else escape
