"""Brings a database to the newest schema: applies ``sql/migrations`` in order, each exactly once.

Owns the table ``tendril_private.schema_migrations``. Each migration shares one transaction with its
record, under a lock that is held for that transaction only; so a crash leaves a clean boundary, two
migrators at once take turns, and a transaction-mode connection pooler is no obstacle.

Must never hold SQL of its own, nor change a database that a newer release has migrated.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import psycopg

from tendril_rt import resources
from tendril_rt.errors import MigrationError

_Connection: TypeAlias = psycopg.AsyncConnection[tuple[object, ...]]


@dataclass(frozen=True)
class _Migration:
    """One file. *sha256* is of its bytes, in hex."""

    version: int
    name: str
    sha256: str
    sql: bytes


async def migrate(url: str, *, on_applied: Callable[[str], None] | None = None) -> list[str]:
    """Apply what is missing and return the names of the files applied, oldest first.

    :param url: libpq URL of a role that may create schemas in the database
    :param on_applied: called with each file's name, after its transaction is committed

    Cancellation: safe; the migration under way is rolled back.

    :raises MigrationError: the database cannot be reached; a migration failed; an applied file has
        changed since; or the database knows a migration that this release does not
    """
    ours = [_read(path) for path in resources.migrations()]
    done: list[str] = []
    async with _connected(url) as connection:
        while (name := await _apply_next(connection, ours)) is not None:
            done.append(name)
            if on_applied is not None:
                on_applied(name)
    return done


def _read(path: Path) -> _Migration:
    sql = path.read_bytes()
    version = int(path.name.split("_", 1)[0])
    return _Migration(version, path.name, hashlib.sha256(sql).hexdigest(), sql)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[_Connection]:
    try:
        # No prepared statements: a pooler may give each transaction another server connection.
        connection = await psycopg.AsyncConnection.connect(
            url, autocommit=True, prepare_threshold=None
        )
    except psycopg.ProgrammingError:  # quotes what it cannot parse, and with it the password
        raise MigrationError(
            "the database's URL cannot be read: postgresql://user:password@host:port/database, "
            "with odd characters percent-encoded"
        ) from None
    except psycopg.Error as exc:
        raise MigrationError(f"the database cannot be reached: {exc}".rstrip()) from exc
    async with connection:
        yield connection


async def _apply_next(connection: _Connection, ours: list[_Migration]) -> str | None:
    """Apply the oldest missing migration in one transaction; return its name, None if none is."""
    current = "the record of migrations"
    try:
        async with connection.transaction():
            await connection.execute(_query("prepare"))
            cursor = await connection.execute(_query("applied"))
            pending = _missing(ours, await cursor.fetchall())
            if pending is None:
                return None
            current = pending.name
            await connection.execute(pending.sql)
            await connection.execute(
                _query("record"),
                {"version": pending.version, "name": pending.name, "sha256": pending.sha256},
            )
    except psycopg.Error as exc:
        raise MigrationError(f"{current} could not be applied, and was undone: {exc}") from exc
    return current


def _missing(ours: list[_Migration], applied: list[tuple[object, ...]]) -> _Migration | None:
    """Return the oldest of *ours* that is not applied, after checking that the others match."""
    known = {migration.version: migration for migration in ours}
    for version, name, sha256 in applied:
        migration = known.pop(int(str(version)), None)
        if migration is None:
            raise MigrationError(
                f"the database has the migration {name}, which this release does not know: "
                "use the release that applied it, or a newer one"
            )
        if migration.sha256 != sha256:
            raise MigrationError(
                f"{migration.name} has changed since it was applied: released migrations are "
                "frozen, restore the file and put the change into a new one"
            )
    return known[min(known)] if known else None


def _query(name: str) -> bytes:
    return resources.read(f"queries/migrate_{name}.sql").encode()
