"""The query part of a URL, read as PostgREST reads it and written as SQL.

Owns the grammar of ``select``, ``order``, ``limit``, ``offset`` and filters. Names become quoted
identifiers, values quoted literals of unknown type (Postgres infers it); the only raw words are
operators of a fixed table and a cast's type, which is letters, digits and spaces.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from tendril_rt.local.gateway.refusals import Refused, not_offered

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_NAME = rf"(?:{_QUOTED}|[\w$ ]+(?:-(?!>)[\w$ ]+)*)"
_KEY = rf'(?:{_QUOTED}|-?[0-9]+|[^-:.,>()"]+(?:-(?!>)[^-:.,>()"]+)*)'
_FIELD = rf"(?P<name>{_NAME})(?P<path>(?:->>?{_KEY})*)"
_SELECT = re.compile(rf"(?:(?P<alias>{_NAME}):(?!:))?(?:\*|{_FIELD})(?:::(?P<cast>\w[\w ]*))?")
_ORDER = re.compile(rf"{_FIELD}(?:\.(?P<way>asc|desc))?(?:\.(?P<nulls>nullsfirst|nullslast))?")
_FILTERED = re.compile(rf"{_FIELD}")
_TEST = re.compile(r"(?P<not>not\.)?(?P<name>[a-z]+)(?P<more>\([^)]*\))?\.(?P<value>.*)", re.S)
_LOGIC = re.compile(r"(?P<not>not\.)?(?P<name>and|or)\((?P<list>.*)\)", re.S)
_PIECE = re.compile(rf"{_QUOTED}|.", re.S)
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{0,18})")

_COMPARE = {
    **{"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="},
    **{"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"},
    **{"cs": "@>", "cd": "<@", "ov": "&&"},
}
_IS = {"null", "not_null", "true", "false", "unknown"}
_ABSENT = {"fts", "plfts", "phfts", "wfts", "isdistinct", "sl", "sr", "nxr", "nxl", "adj"}


@dataclass(frozen=True)
class Window:
    """Which rows are asked for; *limit* None is all."""

    offset: int
    limit: int | None

    def sql(self) -> Composable:
        """Return the LIMIT clause."""
        limit = SQL("all") if self.limit is None else Literal(self.limit)
        return SQL("limit {} offset {}").format(limit, Literal(self.offset))


@dataclass(frozen=True)
class Query:
    """A query over one relation.

    :param names: the selected columns; empty: all of them
    :param arguments: parameters that are no filters, for a function
    :param keys: the keys of the body that count; empty: those that it has
    """

    relation: Sequence[str]
    columns: Composable
    names: tuple[str, ...]
    where: Composable
    order: Composable
    window: Window
    arguments: Mapping[str, str]
    keys: tuple[str, ...]


def parse(
    text: str, relation: Sequence[str], *, is_call: bool = False, range_header: str = ""
) -> Query:
    """Return the query in *text*, the part of the URL behind the question mark.

    :param relation: parts of the name that columns belong to
    :param is_call: parameters that are no filters are arguments of a function
    :raises Refused: not understood, or not offered here
    """
    params = dict[str, str]()
    tests, arguments = list[Composable](), dict[str, str]()
    for key, value in parse_qsl(text, keep_blank_values=True):
        if key in ("select", "order", "limit", "offset", "columns"):
            params[key] = value
        elif key == "apikey":
            continue  # the front door's
        elif key in ("and", "or", "not.and", "not.or"):
            tests.append(_logic(relation, f"{key}{value}"))
        elif key == "on_conflict":
            raise not_offered("upserts (on_conflict)")
        elif is_call and not _is_test(value):
            arguments[key] = value
        elif (field := _FILTERED.fullmatch(key)) is None:
            raise not_offered(f"filters on embedded resources ({key})")
        else:
            tests.append(_test(_field(relation, field), value))
    columns, names = _select(relation, params.get("select", "*"))
    return Query(
        relation,
        columns,
        names,
        _clause("where", " and ", tests),
        _order(relation, params.get("order", "")),
        _window(params.get("limit"), params.get("offset"), range_header),
        arguments,
        tuple(_unquote(item) for item in _split(params.get("columns", ""))),
    )


def _clause(word: str, separator: str, parts: Sequence[Composable]) -> Composable:
    return SQL(word + " ") + SQL(separator).join(parts) if parts else SQL("")


def _select(relation: Sequence[str], text: str) -> tuple[Composable, tuple[str, ...]]:
    columns, names = list[Composable](), list[str]()
    for item in _split(text):
        if "(" in item:
            raise not_offered(f"embedded resources and aggregates in select ({item})")
        match = _SELECT.fullmatch(item)
        if match is None:
            raise _unreadable("select parameter", text, item, "field name (* or [a..z0..9_$])")
        if match["name"] is None:
            columns.append(Identifier(*relation) + SQL(".*"))
            names.append("*")
            continue
        column = _field(relation, match)
        if match["cast"]:
            column = SQL("cast({} as {})").format(column, SQL(match["cast"]))
        if alias := match["alias"] or _last_key(match["path"]):
            column = column + SQL(" as ") + Identifier(_unquote(alias))
        columns.append(column)
        names.append(_unquote(match["name"]))
    everything = "*" in names or not names
    return SQL(", ").join(columns or [SQL("*")]), () if everything else tuple(dict.fromkeys(names))


def _field(relation: Sequence[str], match: re.Match[str]) -> Composed:
    column = Composed([Identifier(*relation, _unquote(match["name"]))])
    if not match["path"]:
        return column
    column = SQL("to_jsonb({})").format(column)
    for arrow, key in re.findall(rf"(->>?)({_KEY})", match["path"]):
        index = _number(key)
        column = column + SQL(arrow) + Literal(_unquote(key) if index is None else index)
    return column


def _last_key(path: str) -> str | None:
    keys = [key for key in re.findall(rf"->>?({_KEY})", path) if _number(key) is None]
    return keys[-1] if keys else None


def _order(relation: Sequence[str], text: str) -> Composable:
    terms = list[Composable]()
    for item in _split(text):
        match = _ORDER.match(item)
        if match is None:
            raise _unreadable("order", text, item, "field name (* or [a..z0..9_$])")
        if match.end() < len(item):
            rest = item[match.end() :]
            wanted = '"asc", "desc", "nullsfirst" or "nullslast"'
            raise _unreadable("order", text, rest[1:] or ".", wanted)
        nulls = {"nullsfirst": " nulls first", "nullslast": " nulls last", None: ""}
        way = f" {match['way'] or 'asc'}{nulls[match['nulls']]}"
        terms.append(_field(relation, match) + SQL(way))
    return _clause("order by", ", ", terms)


def _logic(relation: Sequence[str], text: str) -> Composable:
    """Return ``or(a.eq.1,not.and(b.gt.2,c.is.null))`` as SQL."""
    if match := _LOGIC.fullmatch(text.strip()):
        parts = [_logic(relation, item) for item in _split(match["list"])]
        joined = SQL(f" {match['name']} ").join(parts)
        return SQL("not ({})" if match["not"] else "({})").format(joined)
    match = _FILTERED.match(text.strip())
    if match is None or not text.strip()[match.end() :].startswith("."):
        raise _unreadable("logic tree", text, text, "field name (* or [a..z0..9_$])")
    return _test(_field(relation, match), text.strip()[match.end() + 1 :], unquote=_unquote)


def _is_test(text: str) -> bool:
    match = _TEST.fullmatch(text)
    return match is not None and match["name"] in {*_COMPARE, *_ABSENT, "in", "is"}


def _test(column: Composable, text: str, *, unquote: Callable[[str], str] = str) -> Composable:
    match = _TEST.fullmatch(text)
    if match is None or not _is_test(text):
        raise _unreadable("filter", text, text, '"not" or operator (eq, gt, ...)')
    name, value = match["name"], match["value"]
    if name in _ABSENT or match["more"]:
        raise not_offered(f"the operator {name}{match['more'] or ''}")
    right: Composable
    if name == "is":
        if value.lower() not in _IS:
            wanted = "null, not_null, true, false or unknown"
            raise _unreadable("filter", text, value, wanted)
        right = SQL("is " + value.lower().replace("_", " "))
    elif name == "in":
        if not (value.startswith("(") and value.endswith(")")):
            raise _unreadable("filter", text, value, '"("')
        elements = [re.sub(r'(["\\])', r"\\\1", _unquote(item)) for item in _split(value[1:-1])]
        array = "{" + ",".join(f'"{element}"' for element in elements) + "}"
        right = SQL("= any ({})").format(Literal(array))
    else:
        value = unquote(value)
        right = SQL(_COMPARE[name] + " {}").format(
            Literal(value.replace("*", "%") if "like" in name else value)
        )
    return SQL("not {} {}" if match["not"] else "{} {}").format(column, right)


def _window(limit: str | None, offset: str | None, range_header: str) -> Window:
    start, length = _number(offset) or 0, _number(limit)
    if length == 0:
        return Window(0, 0)
    if length is not None and length < 0:
        raise _out_of_range("Limit should be greater than or equal to zero.")
    ends = [] if length is None else [start + length]
    if match := _RANGE.fullmatch(range_header):
        start = max(start, int(match[1]))
        ends += [int(match[2]) + 1] if match[2] else []
        if match[2] and int(match[2]) < int(match[1]):
            raise _out_of_range(
                "The lower boundary must be lower than or equal to the upper boundary in the Range "
                "header."
            )
    return Window(start, max(min(ends) - start, 0) if ends else None)


def _out_of_range(details: str) -> Refused:
    return Refused(416, "PGRST103", "Requested range not satisfiable", details)


def _number(text: str | None) -> int | None:
    """Return the integer in *text*; what is none is as good as absent."""
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,18}", text) else None


def _split(text: str) -> Iterable[str]:
    """Yield the pieces of *text* between commas that no quotes and no brackets enclose."""
    depth, piece = 0, ""
    for part in _PIECE.findall(text):
        depth += (part == "(") - (part == ")")
        if part == "," and depth == 0:
            yield piece.strip()
            piece = ""
        else:
            piece += part
    if piece.strip():
        yield piece.strip()


def _unquote(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.S)
    return text.strip()


def _unreadable(what: str, text: str, rest: str, wanted: str) -> Refused:
    column = text.find(rest) + 1
    return Refused(
        400,
        "PGRST100",
        f'"failed to parse {what} ({text})" (line 1, column {column})',
        f"unexpected {json.dumps(rest[:1]) if rest else 'end of input'} expecting {wanted}",
    )
