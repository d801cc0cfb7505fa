"""PostgREST's part of the gateway: a request is one transaction under the caller's role and claims.

Owns the connections as ``authenticator``. Postgres itself says what the URL means (rest_query.sql)
and which table or function that is (rest_table.sql, rest_function.sql), and it writes the answer
(rest_respond.sql): no cache of the schema can be stale, and no number is ever Python's. Must never
interpret what a function returns or raises, beyond the HTTP status. While the database is away it
answers 503, and recovers by itself.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import anyio
import orjson
import psycopg
from aiohttp import web
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed

from tendril_rt import resources
from tendril_rt.errors import LocalError
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.refusals import Refused, from_postgres, from_token, not_offered

PREFIX = "/rest/v1/"

_ANONYMOUS = "anon"
_MAX_CONNECTIONS = 10
_CONNECT_S = 5
_METHODS = ("GET", "HEAD", "POST")
_JSON, _OBJECT = "application/json", "application/vnd.pgrst.object+json"
_TYPES = {"*/*": _JSON, "application/*": _JSON, _JSON: _JSON, _OBJECT: _OBJECT}
_TYPES_NOT_OFFERED = re.compile(r"text/csv|geo\+json|vnd\.pgrst\.plan|nulls=stripped")
_PREFERENCE = re.compile(r"return=(minimal|representation)|count=exact|handling=(strict|lenient)")
_PREFERENCE_NOT_OFFERED = re.compile(r"(return|count|missing|resolution|tx|max-affected|timezone)=")


@dataclass(frozen=True)
class _Row:
    """The one row that each statement returns, as far as it has these columns.

    :param refused: why there is no answer
    :param fragments: the pieces of rest_respond.sql, as SQL
    :param arguments: what the URL gives a function
    :param timeout: of the function, else the role's holds
    """

    refused: Mapping[str, str] | None = None
    fragments: dict[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    has_body: bool = True
    is_read_only: bool = False
    timeout: str | None = None
    body: str = ""
    status: str = ""
    content_range: str = ""
    headers: str = ""


class Rest:
    """Answers the requests below ``/rest/v1/``."""

    def __init__(self, url: str, jwt_secret: str) -> None:
        self._url = url
        self._jwt_secret = jwt_secret
        self._slots = anyio.Semaphore(_MAX_CONNECTIONS)
        self._idle: list[psycopg.AsyncConnection[_Row]] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, url: str, jwt_secret: str) -> AsyncIterator[Self]:
        """Keep connections until the block ends.

        :param url: libpq URL of role ``authenticator``
        :raises LocalError: the database cannot be reached
        """
        rest = cls(url, jwt_secret)
        try:
            rest._idle.append(await rest._connect())
        except Refused as exc:
            raise LocalError(f"the gateway cannot reach its database: {exc.__cause__}") from exc
        try:
            yield rest
        finally:
            with anyio.move_on_after(_CONNECT_S, shield=True):
                await rest._hang_up()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer *request*; a refusal is an answer too."""
        role = _ANONYMOUS
        try:
            claims = self._claims(request.headers.get("Authorization", ""))
            role = str(claims.get("role", role))
            parameters = await _parameters(request)
            parameters |= {"role": role, "claims": json.dumps({"role": role, **claims})}
            async with self._transaction() as connection:
                return await _answer(connection, parameters)
        except Refused as refused:
            return refused.response
        except psycopg.Error as exc:
            return from_postgres(exc, is_anonymous=role == _ANONYMOUS).response

    def _claims(self, authorization: str) -> tokens.Claims:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return {}
        try:
            return tokens.verify(token.strip(), self._jwt_secret)
        except tokens.TokenError as exc:
            raise from_token(exc) from exc

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[psycopg.AsyncConnection[_Row]]:
        """Lend a connection for one transaction."""
        async with self._slots:
            if any(c.info.transaction_status != TransactionStatus.IDLE for c in self._idle):
                await self._hang_up()  # one broke: each of the others would fail somebody
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                async with connection.transaction():
                    yield connection
            finally:
                self._idle.append(connection)

    async def _connect(self) -> psycopg.AsyncConnection[_Row]:
        try:
            return await psycopg.AsyncConnection.connect(
                self._url,
                autocommit=True,
                connect_timeout=_CONNECT_S,
                row_factory=class_row(_Row),
            )
        except psycopg.OperationalError as exc:
            message = "Could not query the database for the schema cache. Retrying."
            raise Refused(503, "PGRST002", message) from exc

    async def _hang_up(self) -> None:
        while self._idle:
            await self._idle.pop().close()


async def _parameters(request: web.Request) -> dict[str, object]:
    """Return what *request* says, for the statements.

    :raises Refused: not understood, or not offered here
    """
    path, method = request.match_info["tail"], request.method
    *folder, name = path.split("/")
    if folder not in ([], ["rpc"]):
        raise Refused(404, "PGRST125", "Invalid path specified in request URL")
    if folder and method not in _METHODS:
        raise Refused(405, "PGRST101", f"Cannot use the {method} method on RPC")
    if not name or method not in _METHODS:
        raise not_offered(f"{method} on a table" if name else "the OpenAPI description")
    if "Range" in request.headers:
        raise not_offered("the header Range")
    media_type = _media_type(request.headers.get("Accept", "*/*"))
    preferences = _preferences(",".join(request.headers.getall("Prefer", [])))
    body, keys = await _body(request)
    headers = {key.lower(): value for key, value in request.headers.items()}
    headers.pop("apikey", None)  # the front door's
    return {
        "name": name,
        "relation": "pgrst_call" if folder else name,
        "is_call": bool(folder),
        "has_arguments": bool(folder) and method != "POST",
        "method": method,
        "path": f"/{path}",
        "url": json.dumps(list(request.query.items())),
        "headers": json.dumps(headers),
        "body": body,
        "keys": keys,
        "media_type": media_type,
        "is_object": media_type == _OBJECT,
        "is_full": "return=representation" in preferences,
        "is_counted": "count=exact" in preferences,
    }


async def _body(request: web.Request) -> tuple[str, list[str]]:
    """Return the object in the body as it is, and its keys."""
    try:
        content = await request.read() or b"{}"
    except web.HTTPRequestEntityTooLarge as exc:
        raise Refused(413, "TENDRIL413", "the body is too large for the gateway") from exc
    if "Content-Type" in request.headers and request.content_type != _JSON:
        raise not_offered(f"a body of type {request.content_type}")
    try:
        payload = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        raise Refused(400, "PGRST102", "Empty or invalid json") from exc
    if isinstance(payload, list):
        raise not_offered("an array as the body")
    return (content.decode(), list(payload)) if isinstance(payload, dict) else ("{}", [])


def _media_type(accepted: str) -> str:
    if match := _TYPES_NOT_OFFERED.search(accepted):
        raise not_offered(f"answers of type {match[0]}")
    types = [item.partition(";")[0].strip() for item in accepted.split(",")]
    for item in types:
        if item in _TYPES:
            return _TYPES[item]
    message = f"None of these media types are available: {', '.join(types)}"
    raise Refused(406, "PGRST107", message)


def _preferences(text: str) -> list[str]:
    items = re.findall(r"[^\s,]+", text)
    unknown = [item for item in items if not _PREFERENCE.fullmatch(item)]
    for item in unknown:
        if _PREFERENCE_NOT_OFFERED.match(item):
            raise not_offered(f"Prefer: {item}")
    if unknown and "handling=strict" in items:
        message = "Invalid preferences given with handling=strict"
        raise Refused(400, "PGRST122", message, f"Invalid preferences: {', '.join(unknown)}")
    return items


async def _answer(
    connection: psycopg.AsyncConnection[_Row], parameters: dict[str, object]
) -> web.Response:
    query = await _one(connection, _sql("query"), parameters)
    if parameters["has_arguments"]:
        parameters |= {"body": json.dumps(query.arguments), "keys": list(query.arguments)}
    parameters["columns"] = query.fragments["columns"]
    kind = "function" if parameters["is_call"] else "table"
    plan = await _one(connection, _sql(kind), parameters)
    parameters |= {"is_read_only": plan.is_read_only, "timeout": plan.timeout}
    await connection.execute(_sql("settings"), parameters, prepare=True)
    fragments = {name: SQL(text) for name, text in (query.fragments | plan.fragments).items()}
    outcome = await _one(connection, _sql("respond").format(**fragments))
    if not outcome.status.isdecimal():
        raise Refused(500, "PGRST112", "response.status guc must be a valid status code")
    headers = {"Content-Range": outcome.content_range}
    if plan.has_body:
        headers["Content-Type"] = f"{parameters['media_type']}; charset=utf-8"
    try:
        for entry in orjson.loads(outcome.headers):
            headers |= {name: str(value) for name, value in entry.items()}
    except (orjson.JSONDecodeError, AttributeError, TypeError) as exc:
        message = (
            "response.headers guc must be a JSON array composed of objects with a single key and a "
            "string value"
        )
        raise Refused(500, "PGRST111", message) from exc
    body = outcome.body.encode() if plan.has_body else b""
    return web.Response(body=body, status=int(outcome.status), headers=headers)


async def _one(
    connection: psycopg.AsyncConnection[_Row],
    statement: SQL | Composed,
    parameters: Mapping[str, object] | None = None,
) -> _Row:
    """Return the one row of *statement*, which is prepared if it has parameters."""
    cursor = await connection.execute(statement, parameters, prepare=parameters is not None)
    [row] = await cursor.fetchall()
    if (no := row.refused) is None:
        return row
    if "feature" in no:
        raise not_offered(no["feature"])
    raise Refused(int(no["status"]), no["code"], no["message"], no.get("details"), no.get("hint"))


def _sql(name: str) -> SQL:
    return SQL(resources.read(f"embedded/rest_{name}.sql"))
