"""The stream of committed changes: Postgres' ``pgoutput`` over a temporary slot, decoded.

Owns one replication connection and its slot, which ends with it. Must never decide who may see a
change. Fails with ``psycopg.Error`` when the connection is lost; what commits until the next stream
starts is lost for subscribers, as on Supabase.

Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

import io
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import anyio.to_thread
import orjson
import psycopg
from psycopg import pq, sql

Row = Mapping[str, object]
"""Column -> its text, or JSON as it is. A column whose value was not sent is absent."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # that of Postgres
_JSON_TYPES = (114, 3802)  # json, jsonb
_KINDS = {b"I": "INSERT", b"U": "UPDATE", b"D": "DELETE"}
_OPTIONS = "-c wal_sender_timeout=0"  # else a long transaction, slowly read, is cut off
_CREATE_SLOT = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
_START = sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})")


@dataclass(frozen=True)
class Change:
    """One changed row of a committed transaction.

    :param rows: ``record``, the new row; ``old_record``, what names the old one; each if there is
    """

    kind: str
    schema: str
    table: str
    rows: Mapping[str, Row]
    committed_at: datetime
    xid: int


@asynccontextmanager
async def streaming(url: str, publication: str) -> AsyncIterator["Stream"]:
    """Run a stream: whatever commits after the block is entered will come.

    :raises psycopg.Error: no connection, or no slot is free
    """
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, replication="database", options=_OPTIONS
    )
    pgconn = connection.pgconn
    try:
        slot = sql.Identifier(f"realtime_{secrets.token_hex(8)}")
        await connection.execute(_CREATE_SLOT.format(slot))
        start = _START.format(slot, sql.Literal(publication)).as_bytes(connection)
        # In a thread, since psycopg itself knows no copy in both directions.
        result = await anyio.to_thread.run_sync(pgconn.exec_, start)
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise psycopg.OperationalError(pgconn.get_error_message())
        yield Stream(pgconn)
    finally:
        pgconn.finish()  # at once: such a copy has no polite end


class Stream:
    """The receiving end. Reads no further than asked: what waits, waits in Postgres."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        self._tables: dict[int, _Table] = {}
        self._committed_at = _EPOCH
        self._xid = 0

    async def next(self) -> Change:
        """Return the next change, in order of commit.

        Cancellation: safe; nothing is taken.

        :raises psycopg.Error: the connection is lost
        """
        while True:
            size, data = self._pgconn.get_copy_data(1)
            frame = bytes(data)
            if size < 0:
                message = self._pgconn.get_error_message() or "ended by the server"
                raise psycopg.OperationalError(f"the replication stream is lost: {message}")
            if size == 0:
                await anyio.wait_readable(self._pgconn.socket)
                self._pgconn.consume_input()
            elif frame.startswith(b"k"):  # all is sent: the log may go, the slot never outlives us
                self._pgconn.put_copy_data(b"r" + 3 * frame[1:9] + bytes(9))
                self._pgconn.flush()
            elif (change := self._decoded(_Message(frame[25:]))) is not None:
                return change

    def _decoded(self, message: "_Message") -> Change | None:
        """Return the change that *message* tells of; note what it tells for later ones."""
        match message.read(1):
            case b"B":
                message.seek(8, io.SEEK_CUR)
                self._committed_at = _EPOCH + timedelta(microseconds=message.integer(8))
                self._xid = message.integer(4)
            case b"R":
                oid = message.integer(4)
                self._tables[oid] = _Table.announced(message)
            case b"I" | b"U" | b"D" as letter:
                table = self._tables[message.integer(4)]
                rows = table.rows(message, _KINDS[letter])
                name = (table.schema, table.name)
                return Change(_KINDS[letter], *name, rows, self._committed_at, self._xid)
        return None


@dataclass(frozen=True)
class _Table:
    """A published table. *columns*: is each JSON? *identity*: the columns that name an old row."""

    schema: str
    name: str
    columns: dict[str, bool]
    identity: set[str]

    @classmethod
    def announced(cls, message: "_Message") -> "_Table":
        table = cls(message.text(), message.text(), {}, set())
        message.read(1)  # the replica identity; the flag of each column says it better
        for _ in range(message.integer(2)):
            is_identity, name = message.integer(1) & 1, message.text()
            table.columns[name] = message.integer(4) in _JSON_TYPES
            message.read(4)  # the modifier of its type
            if is_identity:
                table.identity.add(name)
        return table

    def rows(self, message: "_Message", kind: str) -> dict[str, Row]:
        """Return the rows that a change carries, by their names in events."""
        old: Row = {}
        new: Row = {}
        while part := message.read(1):
            row = message.row(self.columns)
            if part == b"N":
                new = row
            else:
                old = {name: row[name] for name in self.identity}
        if kind == "INSERT":
            return {"record": new}
        if kind == "DELETE":
            return {"old_record": old}
        old = old or {name: new[name] for name in self.identity}
        return {"record": {**old, **new}, "old_record": old}  # large values come only if changed


class _Message(io.BytesIO):
    def integer(self, size: int) -> int:
        return int.from_bytes(self.read(size), "big")

    def text(self) -> str:
        length = self.getvalue().index(0, self.tell()) - self.tell()
        return self.read(length + 1)[:-1].decode()

    def row(self, columns: Mapping[str, bool]) -> Row:
        values: dict[str, object] = {}
        self.read(2)  # how many there are
        for name, is_json in columns.items():
            match self.read(1):
                case b"t":
                    text = self.read(self.integer(4))
                    values[name] = orjson.Fragment(text) if is_json else text.decode()
                case b"n":
                    values[name] = None
        return values
