"""What must not be shown is found here: known secrets in all their forms, and telling shapes.

What is masked never depends on how the output was split into reads: a byte is let through only
once no later byte could make it part of a match. What is held back for that is bounded by the
longest form or shape (16 KiB) and ends with the stream at the latest.

All matches are masked, overlapping ones as one. A cheap search decides for most windows that
nothing is in them; exact positions are only asked for where it found something. The cheap one
compares many patterns at once with vector instructions, as long as they are few: hence groups.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from ahocorasick_rs import BytesAhoCorasick, MatchKind

from tendril_rt.logs.disguises import forms_of

MASK = b"[redacted]"
_GROUP = 48  # beyond 64 patterns the library falls back to a search 20 times slower
_HEAD_BYTES = 4
_START_BYTES = 32  # of a form, which are searched for; the rest is compared


@dataclass(frozen=True, slots=True)
class _Shape:
    """What looks like a secret, whatever its value.

    :ivar anchor: how it begins, always
    :ivar reach: the first so many bytes decide, whatever follows
    :ivar begun: what more bytes may still make one of, up to the end of what is there
    :ivar closed: all of it, where its end is certain
    :ivar open: all of it, where only what follows ends it
    """

    anchor: bytes
    reach: int
    begun: re.Pattern[bytes]
    closed: re.Pattern[bytes] | None = None
    open: re.Pattern[bytes] | None = None


def _access_key(anchor: bytes) -> _Shape:
    """The id of an AWS access key."""
    begun, closed = (re.compile(anchor + end) for end in (rb"[A-Z0-9]*\Z", rb"[A-Z0-9]{16}"))
    return _Shape(anchor, 20, begun, closed)


_JWT = re.compile(rb"eyJ[\w-]{5,}\.eyJ[\w-]{5,}\.[\w-]{5,}", re.ASCII)
_JWT_BEGUN = re.compile(rb"eyJ[\w-]*(?:\.(?:e(?:y(?:J[\w-]*(?:\.[\w-]*)?)?)?)?)?\Z", re.ASCII)
_PEM_TITLE = rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_TEXT = rb"[A-Za-z0-9+/=\s\\:,.]*+"  # also as in JSON; with the headers that old keys have
_PEM_OPEN = _PEM_TITLE + _PEM_TEXT + rb"(?:-(?!----)" + _PEM_TEXT + rb")*+"
_PEM_BEGUN = rb"(?:-----BEGIN [A-Z0-9 ]*-{0,4}|" + _PEM_TITLE + rb"[A-Za-z0-9+/=\s\\:,.-]*)\Z"
_SHAPES = (
    _access_key(b"AKIA"),
    _access_key(b"ASIA"),
    _Shape(b"eyJ", 10_240, _JWT_BEGUN, open=_JWT),
    _Shape(  # a private key; without its last line, for as long as it looks like one
        b"-----BEGIN ",
        16_384,
        re.compile(_PEM_BEGUN),
        re.compile(_PEM_OPEN + rb"-----END [A-Z0-9 ]{0,48}-----"),
        re.compile(_PEM_OPEN),
    ),
)


@dataclass(frozen=True, slots=True)
class Scan:
    """What is known of a window.

    :ivar decided: so many bytes from its start will not become part of anything else
    :ivar masked: spans that begin among them, in order and apart; the last may end behind them
    """

    decided: int
    masked: list[tuple[int, int]]


class Redactor:
    """Finds secrets; holds no state of any stream, so one serves all of an attempt.

    :param secrets: values of at least 6 bytes; shorter ones would mask ordinary text
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms = sorted(forms_of(secrets) | {shape.anchor for shape in _SHAPES})
        shapes = {shape.anchor: shape for shape in _SHAPES}
        self._forms = forms
        self._shapes = shapes
        begun: dict[bytes, list[bytes]] = {}
        for form in forms:
            begun.setdefault(form[:_START_BYTES], []).append(form)
        starts = list(begun)
        self._quick = [
            BytesAhoCorasick(starts[i : i + _GROUP], MatchKind.LeftmostFirst)
            for i in range(0, len(starts), _GROUP)
        ]
        self._exact = BytesAhoCorasick(starts)
        self._begun = list(begun.values())
        self._longest = max(map(len, forms))
        heads = sorted({form[:_HEAD_BYTES] for form in forms})
        self._head = re.compile(b"|".join(map(re.escape, heads)))
        self._stubs = {head[:size] for head in heads for size in range(1, _HEAD_BYTES)}

    def scan(self, window: memoryview, *, final: bool) -> Scan:
        """Look at the bytes that are not decided yet, all of them from the first on.

        Does not copy *window* nor keep it. The next call gets what follows the decided bytes.

        :param final: nothing will follow
        """
        size = len(window)
        held = size if final else self._begun_form(window)
        if any(quick.find_matches_as_indexes(window) for quick in self._quick):
            spans, held = self._spans(window, held, final=final)
            return Scan(held, spans)
        return Scan(held, [])

    def redact_text(self, text: str) -> str:
        """Return *text* with every secret masked; for messages, not for streams."""
        raw = text.encode("utf-8", errors="surrogateescape")
        scan = self.scan(memoryview(raw), final=True)
        position, pieces = 0, list[bytes]()
        for begin, end in scan.masked:
            pieces += (raw[position:begin], MASK)
            position = end
        return b"".join([*pieces, raw[position:]]).decode("utf-8", errors="replace")

    def _spans(
        self, window: memoryview, held: int, *, final: bool
    ) -> tuple[list[tuple[int, int]], int]:
        """Return the spans to mask, and how many bytes are decided."""
        found: list[tuple[int, int]] = []
        for start, begin, _ in self._exact.find_matches_as_indexes(window, overlapping=True):
            for form in self._begun[start]:
                end = self._end_of(form, window, begin, final=final)
                if end is None:
                    held = min(held, begin)
                elif end > begin:
                    found.append((begin, end))
        spans: list[tuple[int, int]] = []
        for begin, end in sorted(found):
            if begin >= held:
                break
            if spans and begin < spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], end))
            else:
                spans.append((begin, end))
        return spans, held

    def _end_of(self, form: bytes, window: memoryview, begin: int, *, final: bool) -> int | None:
        """Return where *form* ends that seems to begin there; see :func:`_end_of_shape`."""
        if shape := self._shapes.get(form):
            return _end_of_shape(shape, window, begin, final=final)
        end = begin + len(form)
        return end if len(form) <= _START_BYTES or window[begin:end] == form else begin

    def _begun_form(self, window: memoryview) -> int:
        """Return where the first form begins that the next bytes may complete; else the size."""
        size = len(window)
        position = max(0, size - self._longest + 1)
        while found := self._head.search(window, position):
            if self._is_begun(bytes(window[found.start() :])):
                return found.start()
            position = found.start() + 1
        for begin in range(max(0, size - _HEAD_BYTES + 1), size):
            if bytes(window[begin:]) in self._stubs:
                return begin
        return size

    def _is_begun(self, tail: bytes) -> bool:
        """True if *tail* is the beginning of a longer form."""
        index = bisect_left(self._forms, tail)
        if index < len(self._forms) and self._forms[index] == tail:
            index += 1
        return index < len(self._forms) and self._forms[index].startswith(tail)


def _end_of_shape(shape: _Shape, window: memoryview, begin: int, *, final: bool) -> int | None:
    """Return where a shape ends, *begin* if it is none, None if later bytes decide."""
    end = min(len(window), begin + shape.reach)
    if shape.closed and (found := shape.closed.match(window, begin, end)):
        return found.end()
    is_all_there = final or end == begin + shape.reach
    if not is_all_there and shape.begun.match(window, begin, end):
        return None
    if shape.open and (found := shape.open.match(window, begin, end)):
        return found.end()
    return begin
