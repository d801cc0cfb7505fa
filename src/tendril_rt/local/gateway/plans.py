"""From a request to the one statement that answers it, as PostgREST plans it.

Owns what is offered: calls of functions, reads of tables, inserts; the rest is refused by name.
Values never become Python's: the body's text goes to Postgres as json, and Postgres writes the
answer's text, so a number arrives and leaves as it was written. Must never ask the database.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from tendril_rt import resources
from tendril_rt.local.gateway import query
from tendril_rt.local.gateway.catalog import Catalog, Function, Settings
from tendril_rt.local.gateway.refusals import Refused, not_offered

PREFIX = "/rest/v1/"
OBJECT = "application/vnd.pgrst.object+json"
_JSON, _CSV, _FORM = "application/json", "text/csv", "application/x-www-form-urlencoded"
_TYPES = {"*/*": _JSON, "application/*": _JSON, _JSON: _JSON, OBJECT: OBJECT, _CSV: _CSV}
_RAW = {"text/plain": "text", "text/xml": "xml", "application/octet-stream": "bytea"}
_PREFERENCES = {
    "count": ("exact", "planned", "estimated"),
    "handling": ("strict", "lenient"),
    "missing": ("default", "null"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "return": ("representation", "headers-only", "minimal"),
    "tx": ("commit", "rollback"),
}
#: Preferences that change the outcome of any request, and are not offered.
_REFUSED = ("count=planned", "count=estimated", "tx=rollback", "max-affected", "timezone")


@dataclass(frozen=True)
class Plan:
    """The statement of one request, and how its outcome becomes an answer."""

    statement: Composed
    status: int
    media_type: str | None
    """Of the answer; None: it has no body."""
    offset: int = 0
    is_read_only: bool = False
    is_single: bool = False
    settings: Settings = ()


@dataclass(frozen=True)
class _Wishes:
    """What the request's headers say about the answer."""

    media_type: str
    preferences: Mapping[str, str]


async def plan(request: web.Request, catalog: Catalog) -> Plan:
    """Return what to do.

    :raises Refused: what can be refused without asking Postgres
    """
    wishes = _Wishes(_media_type(request), _preferences(request))
    match request.match_info["tail"].split("/"):
        case ["rpc", name]:
            if request.method not in ("GET", "HEAD", "POST"):
                message = f"Cannot use the {request.method} method on RPC"
                raise Refused(405, "PGRST101", message)
            return await _call(request, catalog, name, wishes)
        case [name] if name:
            if request.method in ("GET", "HEAD"):
                return _read(request, catalog, name, wishes)
            if request.method == "POST":
                return await _insert(request, catalog, name, wishes)
            raise not_offered(f"{request.method} on a table")
        case [_]:
            raise not_offered("the OpenAPI description")
    raise Refused(404, "PGRST125", "Invalid path specified in request URL")


def _read(request: web.Request, catalog: Catalog, name: str, wishes: _Wishes) -> Plan:
    asked = _asked(request, ("public", name))
    catalog.table(name)
    statement = _statement(asked, wishes, _body(wishes.media_type))
    return Plan(statement, 200, wishes.media_type, asked.window.offset, is_read_only=True)


async def _call(request: web.Request, catalog: Catalog, name: str, wishes: _Wishes) -> Plan:
    is_post = request.method == "POST"
    asked = _asked(request, ("pgrst_call",), is_call=not is_post)
    text, unnamed = "", ""
    values: Mapping[str, str] = asked.arguments
    keys: Iterable[str] = values
    if is_post and _content_type(request) == _FORM:
        form = (await request.read()).decode(errors="replace")
        keys = values = dict(parse_qsl(form, keep_blank_values=True))
    elif is_post and _content_type(request) in _RAW:
        unnamed = _RAW[_content_type(request)]
    elif is_post:
        text, unnamed = await _json(request) or "{}", "json/jsonb"
        keys = asked.keys or _keys(text)
    function = catalog.function(name, set(keys), unnamed=unnamed)
    source = _sql("call_rows" if function.is_composite else "call_scalar").format(
        function=Identifier("public", name), **_arguments(function, set(keys), text, values)
    )
    body = _body(wishes.media_type, function)
    return Plan(
        _statement(asked, wishes, body, source),
        204 if function.is_void else 200,
        None if function.is_void else wishes.media_type,
        asked.window.offset,
        is_read_only=function.is_read_only or not is_post,
        is_single=not function.is_set,
        settings=function.settings,
    )


def _arguments(
    function: Function, keys: set[str], text: str, values: Mapping[str, str]
) -> dict[str, Composable]:
    """Return the call's arguments, each from *values* or else from the JSON *text*."""
    types = {a.name: SQL(a.type) for a in function.arguments if a.name in keys}
    if not text or not types:
        direct = SQL("{} := {}::{}")
        given = [direct.format(Identifier(n), Literal(values[n]), types[n]) for n in types]
        return {"payload": SQL(""), "arguments": SQL(", ").join(given)}
    given = [SQL("{0} := pgrst_body.{0}").format(Identifier(name)) for name in types]
    payload = _payload(text, types, limit="limit 1") + SQL(", lateral ")
    return {"payload": payload, "arguments": SQL(", ").join(given)}


async def _insert(request: web.Request, catalog: Catalog, name: str, wishes: _Wishes) -> Plan:
    for preference in ("resolution", "missing"):
        if preference in wishes.preferences:
            raise not_offered(f"Prefer: {preference}={wishes.preferences[preference]}")
    wanted = wishes.preferences.get("return", "minimal")
    if wanted == "headers-only":
        raise not_offered("Prefer: return=headers-only")
    asked = _asked(request, (name,))
    text = await _json(request)
    keys, columns = asked.keys or _keys(text), catalog.table(name)
    if not keys:
        raise not_offered("inserting a row without columns")
    for key in keys:
        if key not in columns:
            message = f"Could not find the '{key}' column of '{name}' in the schema cache"
            raise Refused(400, "PGRST204", message)
    is_full = wanted == "representation"
    returned: list[Composable] = [Identifier(column) for column in asked.names] or [SQL("*")]
    source = _sql("insert").format(
        table=Identifier("public", name),
        columns=SQL(", ").join(map(Identifier, keys)),
        payload=_payload(text, {key: SQL(columns[key]) for key in keys}),
        returning=SQL(", ").join(returned) if is_full else SQL("1"),
    )
    if not is_full:  # then the columns asked for are not there to be selected
        asked = query.parse("", (name,))
    body = _body(wishes.media_type) if is_full else Literal("")
    statement = _statement(asked, wishes, body, source)
    return Plan(statement, 201, wishes.media_type if is_full else None)


def _sql(name: str) -> SQL:
    return SQL(resources.read(f"embedded/rest_{name}.sql"))


def _statement(
    asked: query.Query, wishes: _Wishes, body: Composable, source: Composable | None = None
) -> Composed:
    """Return the whole statement; *source*, if any, runs first and is the relation asked."""
    relation = Identifier(*asked.relation)
    total = _sql("count").format(relation=relation, where=asked.where)
    return _sql("respond").format(
        source=SQL("{} as ({}),").format(relation, source) if source else SQL(""),
        columns=asked.columns,
        relation=relation,
        where=asked.where,
        order=asked.order,
        window=asked.window.sql(),
        total=total if "count" in wishes.preferences else SQL("null::bigint"),
        body=body,
    )


def _body(media_type: str, function: Function | None = None) -> Composable:
    """Return the expression over all rows that is the answer's text."""
    if media_type == _CSV:
        return _sql("csv")
    is_scalar = function is not None and not function.is_composite
    row = SQL("_postgrest_t.pgrst_scalar" if is_scalar else "_postgrest_t")
    if media_type == OBJECT or (function is not None and not function.is_set):
        return SQL("coalesce(json_agg({}) -> 0, 'null')::text").format(row)
    return SQL("coalesce(json_agg({}), '[]')::text").format(row)


def _payload(text: str, types: Mapping[str, SQL], *, limit: str = "") -> Composed:
    """Return the request's JSON as the relation ``pgrst_body`` with columns of *types*."""
    is_object = text.lstrip().startswith("{")
    return _sql("payload").format(
        body=Literal(text),
        names=SQL(", ").join(map(Identifier, types)),
        expand=SQL("json_to_record" if is_object else "json_to_recordset"),
        typed=SQL(", ").join(SQL("{} {}").format(Identifier(n), t) for n, t in types.items()),
        limit=SQL(limit),
    )


def _keys(text: str) -> tuple[str, ...]:
    """Return the keys that the object, or every object of the array, in *text* has."""
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise Refused(400, "PGRST102", "Empty or invalid json") from exc
    rows = payload if isinstance(payload, list) else [payload] if isinstance(payload, dict) else []
    if any(not isinstance(row, dict) or row.keys() != rows[0].keys() for row in rows):
        raise Refused(400, "PGRST102", "All object keys must match")
    return tuple(rows[0]) if rows else ()


async def _json(request: web.Request) -> str:
    if (content_type := _content_type(request)) != _JSON:
        raise Refused(400, "PGRST102", f"Content-Type not acceptable: {content_type}")
    try:
        return (await request.read()).decode()
    except UnicodeDecodeError as exc:
        raise Refused(400, "PGRST102", "Empty or invalid json") from exc


def _content_type(request: web.Request) -> str:
    return request.content_type if "Content-Type" in request.headers else _JSON


def _asked(request: web.Request, relation: Sequence[str], *, is_call: bool = False) -> query.Query:
    text = request.raw_path.partition("?")[2]
    window = request.headers.get("Range", "") if request.method == "GET" else ""
    return query.parse(text, relation, is_call=is_call, range_header=window)


def _media_type(request: web.Request) -> str:
    """Return the first acceptable type that can be made."""
    accepted = request.headers.get("Accept", "*/*").split(",")
    types = [item.partition(";")[0].strip() for item in accepted]
    for media_type in types:
        if media_type in _TYPES:
            return _TYPES[media_type]
    message = f"None of these media types are available: {', '.join(types)}"
    raise Refused(406, "PGRST107", message)


def _preferences(request: web.Request) -> dict[str, str]:
    found, unknown = dict[str, str](), list[str]()
    for item in ",".join(request.headers.getall("Prefer", [])).replace(" ", "").split(","):
        name, _, value = item.partition("=")
        if item in _REFUSED or name in _REFUSED:
            raise not_offered(f"Prefer: {item}")
        if value in _PREFERENCES.get(name, ()):
            found.setdefault(name, value)
        elif name:
            unknown.append(item)
    if unknown and found.get("handling") == "strict":
        details = f"Invalid preferences: {', '.join(unknown)}"
        message = "Invalid preferences given with handling=strict"
        raise Refused(400, "PGRST122", message, details)
    return found
