"""The stream of committed changes: Postgres' ``pgoutput`` over a temporary slot, decoded.

Owns one replication connection and its slot, which ends with it. Must never decide who may see a
change (``access.py`` does). Fails with ``psycopg.Error`` when the connection is lost; what commits
until the next stream starts is lost for subscribers, as on Supabase.

Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

import secrets
import struct
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import anyio
import psycopg
from psycopg import pq, sql

Kind = Literal["INSERT", "UPDATE", "DELETE"]
Row = Mapping[str, str | None]
"""Column -> its text. A column whose value was not sent is absent."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # that of Postgres
_CONFIRM_S = 1.0  # at most so much write-ahead log is kept for us
_CREATE_SLOT = sql.SQL("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
_START = sql.SQL("START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})")


@dataclass(frozen=True)
class Relation:
    """A published table, as last announced. *identity*: the columns that name an old row."""

    oid: int
    schema: str
    table: str
    columns: tuple[str, ...]
    identity: frozenset[str]


@dataclass(frozen=True)
class Change:
    """One changed row of a committed transaction.

    :param record: the new row; empty for a DELETE
    :param old_record: what the replica identity tells of the old row; empty for an INSERT
    """

    kind: Kind
    relation: Relation
    record: Row
    old_record: Row
    committed_at: datetime
    xid: int


@asynccontextmanager
async def streaming(url: str, publication: str) -> AsyncIterator["Stream"]:
    """Run a stream: whatever commits after the block is entered will come.

    :raises psycopg.Error: no connection, or no slot is free
    """
    connection = await psycopg.AsyncConnection.connect(
        url,
        autocommit=True,
        replication="database",
        options="-c wal_sender_timeout=0",  # else a long transaction, slowly read, is cut off
    )
    try:
        slot = sql.Identifier(f"realtime_{secrets.token_hex(8)}")
        await connection.execute(_CREATE_SLOT.format(slot))
        start = _START.format(slot, sql.Literal(publication)).as_bytes(connection)
        await _enter_copy(connection.pgconn, start)
        yield Stream(connection.pgconn)
    finally:
        connection.pgconn.finish()  # at once: a copy in both directions has no polite end


async def _enter_copy(pgconn: pq.abc.PGconn, command: bytes) -> None:
    pgconn.send_query(command)
    while pgconn.flush():
        await anyio.wait_writable(pgconn.socket)
    while pgconn.is_busy():
        await anyio.wait_readable(pgconn.socket)
        pgconn.consume_input()
    result = pgconn.get_result()
    if result is None or result.status != pq.ExecStatus.COPY_BOTH:
        raise _lost(pgconn, result)


def _lost(pgconn: pq.abc.PGconn, result: pq.abc.PGresult | None) -> psycopg.OperationalError:
    at_end = result is not None and result.status == pq.ExecStatus.COMMAND_OK
    reason = "ended by the server" if at_end else pgconn.get_error_message()
    return psycopg.OperationalError(f"the replication stream is lost: {reason}")


class Stream:
    """The receiving end. Reads no further than asked: what waits, waits in Postgres."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self._pgconn = pgconn
        self._decoder = Decoder()
        self._confirmed_at = time.monotonic()

    async def next(self) -> Change:
        """Return the next change, in order of commit.

        Cancellation: safe; nothing is taken.

        :raises psycopg.Error: the connection is lost
        """
        while True:
            size, data = self._pgconn.get_copy_data(1)
            if size < 0:
                raise _lost(self._pgconn, self._pgconn.get_result())
            if size == 0:
                await anyio.wait_readable(self._pgconn.socket)
                self._pgconn.consume_input()
                continue
            frame = bytes(data)
            is_data = frame[:1] == b"w"
            self._confirm(
                lsn=struct.unpack_from("!Q", frame, 9 if is_data else 1)[0],
                at_once=not is_data and frame[17] == 1,
            )
            if is_data and (change := self._decoder.feed(frame[25:])) is not None:
                return change

    def _confirm(self, lsn: int, *, at_once: bool) -> None:
        """Tell Postgres that the log up to *lsn* may go: the slot never outlives us."""
        now = time.monotonic()
        if at_once or now - self._confirmed_at > _CONFIRM_S:
            clock_us = (datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)
            self._pgconn.put_copy_data(struct.pack("!cQQQqB", b"r", lsn, lsn, lsn, clock_us, 0))
            self._pgconn.flush()
            self._confirmed_at = now


class Decoder:
    """What a stream has announced so far: its relations, and the transaction being read."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at = _EPOCH
        self._xid = 0

    def feed(self, message: bytes) -> Change | None:
        """Return the change that *message* tells of, None for one that tells of another thing."""
        fields = _Fields(message)
        match fields.char():
            case "B":
                fields.integer(8)
                self._committed_at = _EPOCH + timedelta(microseconds=fields.integer(8))
                self._xid = fields.integer(4)
            case "R":
                relation = _relation(fields)
                self._relations[relation.oid] = relation
            case "I":
                return self._change("INSERT", fields)
            case "U":
                return self._change("UPDATE", fields)
            case "D":
                return self._change("DELETE", fields)
        return None

    def _change(self, kind: Kind, fields: "_Fields") -> Change:
        relation = self._relations[fields.integer(4)]
        old: Row = {}
        new: Row = {}
        part = fields.char()
        if part in ("K", "O"):
            row = fields.row(relation.columns)
            old = {name: row[name] for name in row if name in relation.identity}
            part = fields.char()
        if part == "N":
            new = fields.row(relation.columns)
        if kind == "UPDATE":
            old = old or {name: new[name] for name in new if name in relation.identity}
            new = {**old, **new}  # a large value that did not change is not sent again
        return Change(kind, relation, new, old, self._committed_at, self._xid)


def _relation(fields: "_Fields") -> Relation:
    oid, schema, table = fields.integer(4), fields.text(), fields.text()
    fields.char()  # the replica identity; the flag of each column says it better
    names: list[str] = []
    identity: set[str] = set()
    for _ in range(fields.integer(2)):
        is_identity = fields.integer(1) & 1
        names.append(fields.text())
        if is_identity:
            identity.add(names[-1])
        fields.integer(8)  # type and its modifier: the catalogue names them
    return Relation(oid, schema, table, tuple(names), frozenset(identity))


class _Fields:
    """Reads the fields of one message from the front; past the end there are empty ones."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._message[self._at - size : self._at]

    def char(self) -> str:
        return self._take(1).decode()

    def integer(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def text(self) -> str:
        text = self._take(self._message.index(0, self._at) - self._at)
        self._at += 1
        return text.decode()

    def row(self, columns: tuple[str, ...]) -> Row:
        values: dict[str, str | None] = {}
        for name, _ in zip(columns, range(self.integer(2)), strict=True):
            match self.char():
                case "t":
                    values[name] = self._take(self.integer(4)).decode()
                case "n":
                    values[name] = None
        return values
