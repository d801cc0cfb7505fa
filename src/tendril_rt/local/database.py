"""The plane's database: a server of its own, or one that is there already.

Owns what the plane must know of it, and whose it is: a server of our own is watched and stopped,
for somebody else's we are one more client, and its restarts are waited out.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psycopg
from psycopg.conninfo import make_conninfo

from tendril_rt import resources
from tendril_rt.errors import LocalError
from tendril_rt.local import postgres

_CONNECT_S = 10


@dataclass(frozen=True)
class Database:
    """A database and the password that ``authenticator`` shall have in it.

    :ivar url: libpq URL of a superuser
    """

    url: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def authenticator_url(self) -> str:
        """Return how ``authenticator`` connects."""
        return make_conninfo(self.url, user="authenticator", password=self.password)


@asynccontextmanager
async def our_own(folder: Path, *, bin_dir: Path | None = None) -> AsyncIterator[Database]:
    """Run a server over *folder* until the block ends; see :func:`postgres.running`.

    :raises LocalError: it cannot start; in a group, if it ends later
    """
    async with (
        postgres.running(folder, bin_dir=bin_dir) as server,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(postgres.watch, server)  # without it the gateway is of no use
        yield Database(server.url(), server.password)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def somebody_elses(url: str) -> AsyncIterator[Database]:
    """Look at the server of *url*, a superuser's; ``authenticator`` gets a new password there.

    :raises LocalError: it cannot be reached, or does not decode its log (wal_level)
    """
    try:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_S
        ) as connection:
            cursor = await connection.execute(resources.read("embedded/wal_level.sql").encode())
            row = await cursor.fetchone()
    except psycopg.ProgrammingError:  # quotes what it cannot parse, and with it the password
        raise LocalError(
            "TENDRIL_LOCAL_DATABASE_URL cannot be read: postgresql://user:password@host:port/name"
        ) from None
    except psycopg.Error as exc:
        raise LocalError(
            f"the database of TENDRIL_LOCAL_DATABASE_URL cannot be reached: {exc}".rstrip()
        ) from exc
    if row != ("logical",):
        level = row[0] if row else "unknown"
        raise LocalError(
            f"the server of TENDRIL_LOCAL_DATABASE_URL has wal_level = {level}, but changes are "
            "read from its log: start it with -c wal_level=logical"
        )
    yield Database(url, secrets.token_urlsafe(24))
