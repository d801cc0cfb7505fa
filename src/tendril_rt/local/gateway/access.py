"""Which subscriber gets which change, and how much of it: Postgres is asked as that subscriber.

Keeps the rules of Supabase's ``walrus``: a row is sent where the role with the claims of the token
can select it by primary key and the filters hold; columns that the role may not read are left out;
a DELETE shows no more than the key where the table has policies, for nobody can ask any more.
Must never let one subscriber spoil another: a policy or a filter that raises is a "no" for that
role and those claims alone. Fails with ``psycopg.Error`` when the connection is lost.
"""

import logging
import re
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import anyio
import orjson
import psycopg
from psycopg import sql
from psycopg.rows import class_row

from tendril_rt import resources
from tendril_rt.local.gateway.expressions import Column, Term, as_json, condition, visibility
from tendril_rt.local.gateway.replication import Change, Row
from tendril_rt.local.gateway.subscriptions import (
    Filter,
    Identity,
    Subscription,
    SubscriptionRefused,
    Target,
)

PUBLICATION = "supabase_realtime"

_MAX_ROW_BYTES = 1024 * 1024  # of a row's text; a larger one comes with error 413 ...
_MAX_VALUE_BYTES = 64  # ... and without its larger values
_OPTIONS = "-c statement_timeout=3s -c timezone=UTC"  # a slow policy holds up everybody
_SETTLE_S = 0.001
_UNABLE = "Unable to subscribe to changes with given parameters."

_Key = TypeVar("_Key", bound=Hashable)

_log = logging.getLogger(__name__)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["Access"]:
    """Run a connection of its own, so that whoever is cancelled in it harms no other.

    :param url: of a role that bypasses policies and may become any other
    """
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, options=_OPTIONS)
    try:
        yield Access(connection)
    finally:
        connection.pgconn.finish()


class Access:
    """Asks Postgres. One caller at a time."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection
        self._settled_xid = 0

    async def admit(self, target: Target, identity: Identity) -> frozenset[int]:
        """Return the tables that *target* names; every filter is tried on each.

        :raises SubscriptionRefused: no such table is published, or a filter cannot work
        """
        try:
            tables = await self._tables(target)
            for table in tables:
                await self._try_filters(target.filters, table, identity.role)
        except psycopg.Error as exc:
            if self._connection.closed:
                raise
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(exc).__name__).lower()
            raise SubscriptionRefused(
                f"{_UNABLE} An exception happened so please check your connect parameters: "
                f"{target}. Exception: ERROR {exc.sqlstate} ({name}) "
                f"{exc.diag.message_primary or exc}"
            ) from exc
        if not tables:
            raise SubscriptionRefused(
                f"{_UNABLE} Please check Realtime is enabled for the given connect parameters: "
                f"{target}"
            )
        return tables

    async def deliveries(
        self, change: Change, audience: Iterable[Subscription]
    ) -> list[tuple[bytes, list[Subscription]]]:
        """Return each wording of *change*, as JSON, with those of *audience* who get it.

        One wording per role, since its columns are; one question per role and claims.
        """
        found = []
        for role, of_role in _grouped(audience, lambda one: one.identity.role).items():
            with self._sparing_others(change, role):
                columns = await self._columns(change.relation.oid, role)
                if not columns:
                    continue  # dropped meanwhile
                if refusal := _refusal(change, columns):
                    found.append((_event(change, errors=[refusal]), of_role))
                    continue
                receivers: list[Subscription] = []
                for identity, group in _grouped(of_role, lambda one: one.identity).items():
                    with self._sparing_others(change, role):
                        receivers += await self._cleared(change, columns, identity, group)
                if receivers:
                    found.append((await self._worded(change, columns), receivers))
        return found

    @contextmanager
    def _sparing_others(self, change: Change, role: str) -> Iterator[None]:
        """Make an error of Postgres a "no" for those whom the block is about, and for no other."""
        try:
            yield
        except psycopg.Error as exc:
            if self._connection.closed:
                raise
            table = f"{change.relation.schema}.{change.relation.table}"
            _log.warning("%s: no event for some of role %s: %s", table, role, exc)

    async def _tables(self, target: Target) -> frozenset[int]:
        cursor = await self._connection.execute(
            resources.read("embedded/realtime_tables.sql"),
            {"publication": PUBLICATION, "schema": target.schema, "table": target.table},
        )
        return frozenset(oid for (oid,) in await cursor.fetchall())

    async def _columns(self, table: int, role: str) -> list[Column]:
        # Asked each time: a GRANT, a new policy or a new column counts at once.
        async with self._connection.cursor(row_factory=class_row(Column)) as cursor:
            await cursor.execute(
                resources.read("embedded/realtime_columns.sql"), {"relation": table, "role": role}
            )
            return await cursor.fetchall()

    async def _try_filters(self, filters: Iterable[Filter], table: int, role: str) -> None:
        columns = [column for column in await self._columns(table, role) if column.is_readable]
        names = {column.name for column in columns}
        for one in filters:
            if one.column not in names:
                raise psycopg.errors.RaiseException(f"invalid column for filter {one.column}")
            await self._ask([condition(one, columns, {one.column: None})])

    async def _cleared(
        self,
        change: Change,
        columns: Sequence[Column],
        identity: Identity,
        group: list[Subscription],
    ) -> list[Subscription]:
        """Return those of *group*, all of one *identity*, who may see *change* and asked for it."""
        filters = list(dict.fromkeys(one for each in group for one in each.target.filters))
        row = change.old_record if change.kind == "DELETE" else change.record
        checks = [condition(one, columns, row) for one in filters]
        if change.kind != "DELETE" and columns[0].has_policies:
            await self._settled(change.xid)
            checks.append(visibility(change, columns))
        if not checks:
            return group
        async with self._connection.transaction():
            await self._connection.execute(
                resources.read("embedded/realtime_become.sql"), asdict(identity)
            )
            answers = await self._ask(checks)
        holding = dict(zip(filters, answers, strict=False))
        is_visible = all(answers[len(filters) :])
        return [
            each
            for each in group
            if is_visible and all(holding[one] for one in each.target.filters)
        ]

    async def _settled(self, xid: int) -> None:
        """Wait until the transaction is over for new snapshots too: some microseconds."""
        while self._settled_xid != xid:
            cursor = await self._connection.execute(
                resources.read("embedded/realtime_settled.sql"), {"xid": xid}
            )
            if (await cursor.fetchone()) == (True,):
                self._settled_xid = xid
            else:
                await anyio.sleep(_SETTLE_S)

    async def _worded(self, change: Change, columns: Sequence[Column]) -> bytes:
        readable = [column for column in columns if column.is_readable]
        old = readable
        if change.kind == "DELETE" and columns[0].has_policies:
            old = [column for column in readable if column.is_key]
        rows = (change.record, change.old_record)
        size = sum(len(value) for row in rows for value in row.values() if value)
        is_large = size > _MAX_ROW_BYTES
        return _event(
            change,
            columns=[{"name": column.name, "type": column.type_name} for column in readable],
            record=await self._json(readable, change.record, is_large=is_large),
            old_record=await self._json(old, change.old_record, is_large=is_large),
            errors=["Error 413: Payload Too Large"] if is_large else None,
        )

    async def _json(
        self, columns: Iterable[Column], row: Row, *, is_large: bool
    ) -> dict[str, orjson.Fragment]:
        """Return the values that *row* has, as ``to_jsonb`` words them."""
        present = [column for column in columns if column.name in row]
        values = await self._ask(as_json(column, row) for column in present)
        return {
            column.name: orjson.Fragment("null" if value is None else value)
            for column, value in zip(present, values, strict=True)
            if not is_large or (value and len(value.encode()) <= _MAX_VALUE_BYTES)
        }

    async def _ask(self, terms: Iterable[Term]) -> tuple[Any, ...]:
        """Return the values of *terms*, by one select; none for none."""
        expressions: list[sql.Composable] = []
        parameters: list[str | None] = []
        for expression, values in terms:
            expressions.append(expression)
            parameters += values
        if not expressions:
            return ()
        query = sql.SQL("select {}").format(sql.SQL(", ").join(expressions))
        cursor = await self._connection.execute(query, parameters)
        return await cursor.fetchone() or ()


def _refusal(change: Change, columns: Iterable[Column]) -> str | None:
    """Return the error that stands for the whole row, where its key is none or not readable."""
    key = [column for column in columns if column.is_key]
    if change.kind == "DELETE":
        return None
    if not key:
        return "Error 400: Bad Request, no primary key"
    if not all(column.is_readable for column in key):
        return "Error 401: Unauthorized"
    return None


def _event(
    change: Change,
    *,
    columns: Sequence[Mapping[str, str]] = (),
    record: Mapping[str, orjson.Fragment] | None = None,
    old_record: Mapping[str, orjson.Fragment] | None = None,
    errors: list[str] | None = None,
) -> bytes:
    event: dict[str, object] = {
        "schema": change.relation.schema,
        "table": change.relation.table,
        "type": change.kind,
        "commit_timestamp": change.committed_at.isoformat(timespec="milliseconds")[:-6] + "Z",
        "columns": columns,
        "errors": errors,
    }
    if change.kind != "DELETE":
        event["record"] = record or {}
    if change.kind != "INSERT":
        event["old_record"] = old_record or {}
    return orjson.dumps(event)


def _grouped(
    subscriptions: Iterable[Subscription], key: Callable[[Subscription], _Key]
) -> dict[_Key, list[Subscription]]:
    groups: dict[_Key, list[Subscription]] = {}
    for one in subscriptions:
        groups.setdefault(key(one), []).append(one)
    return groups
