"""Which subscriber gets which change, and how much of it: Postgres is asked as that subscriber.

The rules are in ``realtime_access.sql``: a row is sent where the role with the claims of the token
can select it by primary key and the filter holds; columns that the role may not read are left out.
A private topic is open to whom the policies of ``realtime.messages`` would show a broadcast in it.
Must never let one subscriber spoil another: a policy that raises is a "no" for its role and claims
alone. Fails with ``psycopg.Error`` when the connection is lost.
"""

import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import orjson
import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field

from tendril_rt import resources
from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.broadcast import Message
from tendril_rt.local.gateway.replication import Change, Row

_OPTIONS = "-c statement_timeout=3s -c timezone=UTC"  # a slow policy holds up everybody
_CONDITION = re.compile(r"eq\.[^,]*|in\.\([^()]*\)")

_log = logging.getLogger(__name__)


class Refused(TendrilError):
    """A token, a join or a subscription is refused; ``str()`` is what Realtime says."""

    code = "REALTIME_REFUSED"


@dataclass(frozen=True)
class Identity:
    """Who asks: a role of Postgres, and the claims of the token as JSON."""

    role: str
    claims: str


class Binding(BaseModel):
    """What a client asks for: one entry of ``postgres_changes`` in a join."""

    model_config = ConfigDict(extra="allow")

    event: Literal["*", "INSERT", "UPDATE", "DELETE"] = "*"
    in_schema: str = Field("public", alias="schema")
    table: str = "*"
    filter: str = ""

    def as_sent(self) -> dict[str, object]:
        """Return the entry as the client wrote it."""
        return self.model_dump(by_alias=True, exclude_unset=True)


@dataclass(frozen=True)
class Subscription:
    """An admitted binding; where it has a filter, *column* must have one of *values*."""

    binding: Binding
    column: str | None
    values: Sequence[object]

    def covers(self, change: Change) -> bool:
        """Tell whether *change* is of the kind and the table asked for."""
        is_table = (self.binding.in_schema, self.binding.table) == (change.schema, change.table)
        return is_table and self.binding.event in ("*", change.kind)

    def fits(self, rows: Mapping[str, Row]) -> bool:
        """Tell whether the filter holds; a value that is absent fits none."""
        row = rows.get("record") or rows["old_record"]
        return self.column is None or (self.column in row and row[self.column] in self.values)


def identified(token: str, jwt_secret: str) -> tuple[Identity, float]:
    """Return whom *token* stands for, and until when (Unix seconds).

    :raises Refused: forged, expired or no token at all
    """
    try:
        claims = tokens.verify(token, jwt_secret, skew_s=math.inf)
    except tokens.TokenError as exc:
        if exc.reason is tokens.Reason.BAD_SIGNATURE:
            raise Refused("JwtSignatureError: Failed to validate JWT signature") from exc
        raise Refused("MalformedJWT: The token provided is not a valid JWT") from exc
    role, expires_at = claims.get("role"), claims.get("exp")
    if not isinstance(role, str) or not isinstance(expires_at, int | float):
        raise Refused("InvalidJWTToken: Fields `role` and `exp` are required in JWT")
    if (late_s := time.time() - expires_at) > 0:
        raise Refused(f"InvalidJWTToken: Token has expired {int(late_s)} seconds ago")
    return Identity(role, orjson.dumps(claims).decode()), expires_at


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["Access"]:
    """Run a connection.

    :param url: of a role that bypasses policies and may become any other
    """
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, options=_OPTIONS)
    try:
        await connection.execute(resources.read("embedded/realtime_access.sql"))
        yield Access(connection)
    finally:
        connection.pgconn.finish()


class Access:
    """Asks Postgres. Any number of callers; none of them may be cancelled in it."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def admit(self, binding: Binding, role: str) -> Subscription:
        """Return the subscription to *binding*; its filter is tried.

        :raises Refused: the table is not published, or the filter cannot work
        """
        column, operator, value = _parsed(binding.filter)
        values = value[1:-1].split(",") if operator == "in" else [value] if column else []
        terms = json.dumps([column, operator, value, False], ensure_ascii=False)
        shown = (
            f"[event: {binding.event}, schema: {binding.in_schema}, table: {binding.table}, "
            f"filters: [{f'{{{terms[1:-1]}}}' if column else ''}], select: nil]"
        )
        problem = "Please check Realtime is enabled for the given connect parameters"
        try:
            arguments = (binding.in_schema, binding.table, role, column, values)
            if (worded := await self._call("admitted", *arguments)) is not None:
                return Subscription(binding, column, orjson.loads(worded))
        except psycopg.Error as exc:
            if self._connection.closed:
                raise
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(exc).__name__).lower()
            problem = "An exception happened so please check your connect parameters"
            shown += f". Exception: ERROR {exc.sqlstate} ({name}) {exc.diag.message_primary}"
        raise Refused(f"Unable to subscribe to changes with given parameters. {problem}: {shown}")

    async def rows(self, change: Change) -> Mapping[str, Row]:
        """Return the rows of *change* as events word them, once everybody can select them.

        There are none where Postgres cannot tell any more, since the table has changed.
        """
        texts = orjson.dumps(change.rows).decode()
        rows = await self._spared("worded", change.schema, change.table, texts, str(change.xid))
        worded: dict[str, Row] = orjson.loads(rows or "{}")
        return worded

    async def event(
        self, change: Change, rows: Mapping[str, Row], identity: Identity
    ) -> bytes | None:
        """Return *change* as JSON, as far as *identity* may know it; None if it may not.

        :param rows: those of *change*, worded
        """
        committed_at = change.committed_at.isoformat(timespec="milliseconds")[:-6] + "Z"
        names = (change.schema, change.table, change.kind, committed_at)
        worded = orjson.dumps(rows).decode()
        event = await self._spared("event", *names, worded, identity.role, identity.claims)
        return event.encode() if event else None

    async def check_listening(self, topic: str, identity: Identity) -> None:
        """Return if *identity* may listen to the private *topic*.

        :raises Refused: it may not, or the policies raise for it
        """
        may = await self._spared("may_listen", topic, identity.role, identity.claims)
        if may != "true":
            words = "You do not have permissions to read from this Channel topic"
            raise Refused(f"Unauthorized: {words}: {topic}")

    async def recall(self, topic: str, since_ms: object, limit: object) -> Sequence[Message]:
        """Return the last private messages of *topic*, oldest first.

        :param since_ms: Unix time; an integer, as *limit* is, unless the client sent something else
        :raises Refused: these numbers cannot be meant
        """
        rows = None
        if type(since_ms) is int and type(limit) is int:
            rows = await self._spared("replayed", topic, since_ms, limit)
        if rows is None:
            raise Refused("UnableToReplayMessages: Replay params are not valid")
        return [
            Message(row["id"], topic, row["event"], True, row["payload"].encode())
            for row in orjson.loads(rows)
        ]

    async def _spared(self, function: str, *arguments: object) -> str | None:
        """Call *function*, where an error is a "no" for those concerned and for no other."""
        try:
            return await self._call(function, *arguments)
        except psycopg.Error as exc:
            if self._connection.closed:
                raise
            _log.warning("Postgres could not answer %r for some: %s", function, exc)
            return None

    async def _call(self, function: str, *arguments: object) -> str | None:
        call = sql.SQL("select {}({})::text").format(
            sql.Identifier("pg_temp", function),
            sql.SQL(", ").join([sql.Placeholder()] * len(arguments)),
        )
        cursor = await self._connection.execute(call, arguments)
        [text] = await cursor.fetchone() or [None]
        return text


def _parsed(text: str) -> tuple[str | None, str, str]:
    """Return column, operator and value of a filter; no column where there is none.

    :raises Refused: another operator than ``eq`` and ``in``
    """
    column, _, condition = text.partition("=")
    operator, _, value = condition.partition(".")
    if not text:
        return None, "", ""
    if not _CONDITION.fullmatch(condition):
        parts = json.dumps([operator, value], ensure_ascii=False)
        raise Refused(f"Error parsing `filter` params: {parts}")
    return column, operator, f"{{{value[1:-1]}}}" if operator == "in" else value
