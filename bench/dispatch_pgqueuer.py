"""A PgQueuer worker that says when it picked each job: the reference of ``bench.dispatch``.

It has what our agents must not need: a connection to the database, where it listens with LISTEN and
NOTIFY. Over asyncpg, since over psycopg its listener shares the connection by turns of a second.
"""

import sys
import time

import anyio
import asyncpg  # type: ignore[import-untyped]
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

ENTRYPOINT = "dispatch"


async def install(url: str) -> None:
    """Make PgQueuer's tables."""
    connection = await asyncpg.connect(url)
    try:
        await Queries.from_asyncpg_connection(connection).install()
    finally:
        with anyio.move_on_after(5, shield=True):
            await connection.close()


async def _work(url: str) -> None:
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(url)))

    @queuer.entrypoint(ENTRYPOINT)
    async def picked(job: Job) -> None:
        print(job.id, time.time(), flush=True)

    print("ready", flush=True)
    await queuer.run(batch_size=1)


if __name__ == "__main__":
    anyio.run(_work, sys.argv[1])
