"""JSON without losing a digit: numbers stay the text that they are written as.

Pure. Refuses what two parsers could understand differently, and what is too large to be a
configuration; messages repeat no values, which may be secret.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from tendril_rt.errors import SnapshotError

_MAX_CHARACTERS = 4 * 1024 * 1024  # far beyond a stack's variables, far below what hurts an agent
_MAX_DEPTH = 64  # of lists and objects in each other; Terraform's own types stay far below
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written; *text* is valid JSON."""

    text: str

    @property
    def is_integer(self) -> bool:
        return self.text.lstrip("-").isdigit()


def load(text: str) -> object:
    """Parse *text* with every number as it was written.

    :raises SnapshotError: it is not JSON, too large, too deep, or ambiguous
    """
    if len(text) > _MAX_CHARACTERS:
        raise SnapshotError(
            f"the provision's configuration has {len(text)} characters, more than "
            f"{_MAX_CHARACTERS}: keep large data in the template or in storage that it reads"
        )
    try:
        value = _DECODER.decode(text)
        _check_nesting_and_text(value)
    except RecursionError as exc:
        raise _too_deep() from exc
    except ValueError as exc:
        raise SnapshotError(f"the provision's configuration is not JSON: {exc}") from exc
    return value


def _check_nesting_and_text(value: object) -> None:
    """:raises ValueError: half a character, which no UTF-8 file can hold"""
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str) and not item.isascii():
                _ = item.encode()  # UnicodeEncodeError is a ValueError, and repeats no text
        if not inner:
            return
        level = inner
    raise _too_deep()


def _too_deep() -> SnapshotError:
    return SnapshotError(
        f"the provision's configuration is nested more than {_MAX_DEPTH} deep: flatten it"
    )


def _unique(members: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse a repeated key: two parsers may not agree on which one counts."""
    value = dict(members)
    if len(value) != len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:100]!a} stands twice in one object")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_no_constant,
)


def member(text: str, name: str) -> str:
    """Return the raw text of the member *name* of the JSON object *text*.

    *text* must have passed :func:`load`, and the member must be there.
    """
    return next(raw for found, raw in _members(text) if found == name)


def _members(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the raw text of each member of the valid JSON object *text*."""
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + len(":"))
        _, end = _DECODER.raw_decode(text, at)
        yield str(name), text[at:end]
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found  # noqa: S101 - the pattern matches the empty text too
    return found.end()
