"""How ``grape`` prints: tables for people, JSON for programs, and colour only where it is seen.

Results go to stdout, everything else (progress, notes, errors) to stderr, so that a pipe holds
results alone. Whatever others wrote is made harmless before a person sees it; JSON holds it
exactly, in ASCII, so that no terminal's encoding changes it.
"""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO, TypeAlias

import simplejson

from tendril_rt.cli.terminal import harmless

Row: TypeAlias = Mapping[str, object]

_GREEN, _RED, _YELLOW, _DIM, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_COLOURS = {
    **dict.fromkeys(("ONLINE", "SUCCESS", "live"), _GREEN),
    **dict.fromkeys(("FAILED", "OFFLINE", "revoked"), _RED),
    **dict.fromkeys(("CANCELLED", "PENDING", "DRAINING", "expired"), _YELLOW),
}
_ERASE = "\r\x1b[K"
_MIN_WIDTH = 12  # of the one column that is cut to fit


@dataclass(frozen=True)
class Column:
    """A column of a table.

    :param of: the row's key, or what makes the text out of the row
    :param is_cut: shortened where the terminal is too narrow; one of a table
    """

    title: str
    of: str | Callable[[Row], object]
    is_cut: bool = False

    def text(self, row: Row) -> str:
        value = row.get(self.of) if isinstance(self.of, str) else self.of(row)
        return " ".join(harmless(shown(value), colours=False).split()) or "-"


@dataclass
class Output:
    """Where a command prints to.

    :param as_json: results as JSON
    :param environ: ``NO_COLOR``, ``TERM``
    """

    as_json: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    _has_progress: bool = False

    def table(self, rows: Sequence[Row], columns: Sequence[Column], *, empty: str) -> None:
        """Print *rows*; *empty* goes to stderr where there are none."""
        if self.as_json:
            self.json(rows)
            return
        if not rows:
            self.note(empty)
            return
        cells = [[column.title for column in columns]]
        cells += [[column.text(row) for column in columns] for row in rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        self._fit(widths, columns)
        for number, line in enumerate(cells):
            padded = [_cut(text, width) for text, width in zip(line, widths, strict=True)]
            self._print_line(padded, is_title=number == 0)

    def record(self, row: Row, columns: Sequence[Column]) -> None:
        """Print one thing, a line for each of its columns; as JSON the whole *row*."""
        if self.as_json:
            self.json(row)
            return
        width = max(len(column.title) for column in columns)
        for column in columns:
            text = column.text(row)
            print(f"{column.title:<{width}}  {self.coloured(text)}", file=self.out)

    def json(self, value: object) -> None:
        """Print *value* as JSON, every digit of its numbers kept."""
        print(simplejson.dumps(value, use_decimal=True, indent=2), file=self.out, flush=True)

    def json_line(self, value: object) -> None:
        """Print *value* as JSON on one line."""
        print(simplejson.dumps(value, use_decimal=True), file=self.out, flush=True)

    def note(self, text: str) -> None:
        """Tell a person something; it is no result."""
        self.progress("")
        self.out.flush()  # what was printed before is seen before, also where both are one file
        print(harmless(text, colours=False), file=self.err, flush=True)

    def progress(self, text: str) -> None:
        """Show on a terminal how far something is, in place of what was shown before."""
        if not self.err.isatty() or not (text or self._has_progress):
            return
        width = shutil.get_terminal_size().columns - 1
        self.err.write(_ERASE + harmless(text, colours=False)[:width])
        self.err.flush()
        self._has_progress = bool(text)

    def coloured(self, word: str) -> str:
        """Return *word* in its colour, if it has one and stdout shows colours."""
        colour = _COLOURS.get(word.strip(), "")
        return f"{colour}{word}{_PLAIN}" if colour and self.shows_colours else word

    @property
    def shows_colours(self) -> bool:
        """Tell whether stdout is a terminal that nobody forbade colours on (no-color.org)."""
        is_plain = self.environ.get("NO_COLOR") or self.environ.get("TERM") == "dumb"
        return self.out.isatty() and not is_plain

    def _fit(self, widths: list[int], columns: Sequence[Column]) -> None:
        """Narrow the column that may be cut. A pipe gets everything."""
        if not self.out.isatty():
            return
        too_wide = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
        for index, column in enumerate(columns):
            if column.is_cut and too_wide > 0:
                widths[index] = max(min(_MIN_WIDTH, widths[index]), widths[index] - too_wide)

    def _print_line(self, cells: Sequence[str], *, is_title: bool) -> None:
        line = "  ".join(self.coloured(cell) for cell in cells).rstrip()
        if is_title and self.shows_colours:
            line = f"{_DIM}{line}{_PLAIN}"
        print(line, file=self.out)


def shown(value: object) -> str:
    """Return *value* as people write it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def ago(name: str) -> Callable[[Row], str]:
    """Return what tells how long ago the time in column *name* was."""

    def text(row: Row) -> str:
        seconds = age_s(row.get(name))
        return "" if seconds is None else f"{span(seconds)} ago"

    return text


def age_s(at: object) -> float | None:
    """Return how many seconds ago the ISO 8601 time *at* was; None if it is none."""
    if not isinstance(at, str):
        return None
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds())


def span(seconds: float) -> str:
    """Return a duration in its two largest words at most, such as ``3 min``."""
    for unit_s, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{int(seconds // unit_s)} {name}"
    return f"{int(seconds)} s"


def _cut(text: str, width: int) -> str:
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)
