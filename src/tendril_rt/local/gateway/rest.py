"""PostgREST's part of the gateway: a request is one transaction under the caller's role and claims.

Owns the pool of connections as ``authenticator``. Settings live and die with the transaction; the
answer begins only when it has ended. Must never interpret what a function returns or raises, beyond
the HTTP status. While the database is away it answers 503, and recovers by itself.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import orjson
import psycopg
from aiohttp import web
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from tendril_rt import resources
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.catalog import SchemaCache
from tendril_rt.local.gateway.plans import OBJECT, PREFIX, Plan, plan
from tendril_rt.local.gateway.refusals import Refused, from_postgres, from_token

_ANONYMOUS = "anon"
_POOL_WAIT_S = 10.0
_CONNECTION = {"prepare_threshold": None, "connect_timeout": 5}  # no two statements are the same


@dataclass(frozen=True)
class _Outcome:
    """The one row that every statement returns: sql/embedded/rest_respond.sql."""

    total: int | None
    rows: int
    body: str
    status: str | None
    headers: str | None


class Rest:
    """Answers the requests below ``/rest/v1/``."""

    def __init__(self, pool: AsyncConnectionPool, schema: SchemaCache, jwt_secret: str) -> None:
        self._pool = pool
        self._schema = schema
        self._jwt_secret = jwt_secret

    @classmethod
    @asynccontextmanager
    async def running(cls, url: str, jwt_secret: str) -> AsyncIterator[Self]:
        """Keep the pool and the schema cache until the block ends.

        :param url: libpq URL of role ``authenticator``
        """
        pool = AsyncConnectionPool(
            url, min_size=1, max_size=10, open=False, kwargs=_CONNECTION, timeout=_POOL_WAIT_S
        )
        async with pool, SchemaCache.following(url) as schema:
            yield cls(pool, schema, jwt_secret)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer *request*; a refusal is an answer too."""
        try:
            claims = self._claims(request.headers.get("Authorization", ""))
            planned = await plan(request, self._schema.catalog)
            return _answer(planned, await self._run(request, claims, planned))
        except Refused as refused:
            return refused.response()

    def _claims(self, authorization: str) -> tokens.Claims:
        """Return the caller's claims, always with a role."""
        scheme, _, token = authorization.partition(" ")
        claims: tokens.Claims = {}
        if scheme.lower() == "bearer":
            try:
                claims = tokens.verify(token.strip(), self._jwt_secret)
            except tokens.TokenError as exc:
                raise from_token(exc) from exc
        return {"role": _ANONYMOUS, **claims}

    async def _run(self, request: web.Request, claims: tokens.Claims, planned: Plan) -> _Outcome:
        connection: psycopg.AsyncConnection | None = None
        failure: psycopg.Error | PoolTimeout
        try:
            async with self._pool.connection() as connection:
                await self._impersonate(connection, request, claims, planned)
                cursor = await connection.execute(planned.statement)
                [row] = await cursor.fetchall()
                outcome = _Outcome(*row)
                if planned.media_type == OBJECT and not planned.is_single and outcome.rows != 1:
                    message = "Cannot coerce the result to a single JSON object"
                    details = f"The result contains {outcome.rows} rows"
                    raise Refused(406, "PGRST116", message, details)  # and so rolled back
                return outcome
        except (psycopg.Error, PoolTimeout) as exc:
            failure = exc
        if connection is not None and connection.closed:
            self._schema.forget()
            await self._pool.check()  # else every idle connection would fail somebody
        raise from_postgres(failure, is_anonymous=claims["role"] == _ANONYMOUS) from failure

    async def _impersonate(
        self,
        connection: psycopg.AsyncConnection,
        request: web.Request,
        claims: tokens.Claims,
        planned: Plan,
    ) -> None:
        role = str(claims["role"])
        headers = {name.lower(): value for name, value in request.headers.items()}
        for name in ("apikey", "cookie"):  # the front door's, and a setting of its own
            headers.pop(name, None)
        settings = [
            ("transaction_read_only", "on" if planned.is_read_only else "off"),
            ("search_path", '"public"'),
            *self._schema.catalog.roles.get(role, ()),
            ("role", role),
            ("request.jwt.claims", orjson.dumps(claims).decode()),
            ("request.method", request.method),
            ("request.path", "/" + request.raw_path.partition("?")[0].removeprefix(PREFIX)),
            ("request.headers", json.dumps(headers)),
            ("request.cookies", json.dumps(dict(request.cookies))),
            *planned.settings,
        ]
        statement = resources.read("embedded/rest_settings.sql").encode()
        await connection.execute(
            statement, [list(column) for column in zip(*settings, strict=True)]
        )


def _answer(planned: Plan, outcome: _Outcome) -> web.Response:
    status, reason, body = planned.status, None, outcome.body.encode()
    first, last = planned.offset, planned.offset + outcome.rows - 1
    total = outcome.total
    if status == 201:
        first, last = 1, 0  # PostgREST names no rows of an insert
    elif status == 200 and total is not None and first > total:
        status, reason = 416, "Requested Range Not Satisfiable"
        details = f"An offset of {first} was requested, but there are only {total} rows."
        body = Refused(status, "PGRST103", "Requested range not satisfiable", details).body()
    elif status == 200 and total is not None and outcome.rows < total:
        status = 206
    rows = f"{first}-{last}" if first <= last and total != 0 else "*"
    headers = {"Content-Range": f"{rows}/{'*' if total is None else total}"}
    if planned.media_type is None:
        body = b""
    else:
        headers["Content-Type"] = f"{planned.media_type}; charset=utf-8"
    if outcome.status is not None:
        status, reason = _asked_status(outcome.status), None
    headers |= _asked_headers(outcome.headers or "[]")
    return web.Response(body=body, status=status, reason=reason, headers=headers)


def _asked_status(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise Refused(500, "PGRST112", "response.status guc must be a valid status code")


def _asked_headers(text: str) -> dict[str, str]:
    try:
        return {name: str(value) for entry in orjson.loads(text) for name, value in entry.items()}
    except (orjson.JSONDecodeError, AttributeError, TypeError) as exc:
        message = (
            "response.headers guc must be a JSON array composed of objects with a single key and a "
            "string value"
        )
        raise Refused(500, "PGRST111", message) from exc
