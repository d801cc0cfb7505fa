"""What one agent of ``bench.claims`` repeats: a claim by ours, by simpler ones, by two libraries.

Every contestant speaks through psycopg's asynchronous connection, and its statements are prepared.
A claim of ours, and of the simpler ones, is one statement that commits by itself; ours comes as
role anon (``set role``, once per session). PgQueuer and Procrastinate are called through their own
query code, at batch size 1 and without any limit, which is the fastest that they can do.

The names with ``in requests`` are sent as PostgREST sends them: BEGIN, the request's settings and
role, the call, COMMIT. Whatever a claim locks stays locked over the last two of those round trips.
"""

import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

import procrastinate
import psycopg
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.queries import EntrypointExecutionParameter, Queries
from psycopg.rows import DictRow, dict_row

_Connection: TypeAlias = psycopg.AsyncConnection[DictRow]

_SQL = Path(__file__).with_name("sql")


@dataclass(frozen=True)
class Target:
    """Where a call goes: a cluster (or a library's queue), perhaps a lease there."""

    queue: str
    token_hash: str = ""
    agent: str = ""
    provision: str = ""


#: One call; what it claimed or wrote, None if there was nothing.
Call: TypeAlias = Callable[[Target], Awaitable[str | None]]


def sql(name: str) -> bytes:
    """Return ``bench/sql/<name>.sql``."""
    return (_SQL / f"{name}.sql").read_bytes()


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[_Connection]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row)
    async with connection:
        yield connection


_ENTER = sql("enter_request")
_WORDS = ("vpc", "subnet", "private", "eks", "node_group", "route_table", "policy", "default")


async def _as_request(
    connection: _Connection, query: bytes, arguments: Mapping[str, object], role: str = "anon"
) -> DictRow | None:
    """Send one call as PostgREST does."""
    async with connection.transaction():
        await connection.execute(_ENTER, {"role": role}, prepare=True)
        return await (await connection.execute(query, arguments, prepare=True)).fetchone()


def _claim(name: str, role: str, *, in_requests: bool = False) -> "Contestant":
    """Return the contestant whose claim is ``claim_<name>.sql``."""
    query = sql(f"claim_{name}")

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Call]:
        agent = str(uuid.uuid4())
        async with _connected(url) as connection:
            if not in_requests:
                await connection.execute(f"set role {role}".encode())

            async def claim(target: Target) -> str | None:
                arguments = {
                    "cluster": target.queue,
                    "token_hash": target.token_hash,
                    "agent": agent,
                    "claim": str(uuid.uuid4()),
                }
                if in_requests:
                    row = await _as_request(connection, query, arguments, role)
                else:
                    cursor = await connection.execute(query, arguments, prepare=True)
                    row = await cursor.fetchone()
                return f"{row['id']}" if row else None

            yield claim

    return opened


@asynccontextmanager
async def _empty_poll(url: str) -> AsyncIterator[Call]:
    """Claim where nothing is queued; it counts as done when it finds nothing."""
    async with _claim("ours", "anon", in_requests=True)(url) as claim:

        async def poll(target: Target) -> str | None:
            assert await claim(target) is None
            return target.queue

        yield poll


@asynccontextmanager
async def _pgqueuer(url: str) -> AsyncIterator[Call]:
    unlimited = EntrypointExecutionParameter(concurrency_limit=0)
    me = QueueManagerId(uuid.uuid4())
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        queries = Queries.from_psycopg_connection(connection)

        async def claim(target: Target) -> str | None:
            jobs = await queries.dequeue(
                batch_size=1,
                entrypoints={QueueEntrypoint(target.queue): unlimited},
                queue_manager_id=me,
                global_concurrency_limit=None,
                heartbeat_timeout=timedelta(seconds=90),
            )
            return str(jobs[0].id) if jobs else None

        yield claim


@asynccontextmanager
async def _procrastinate(url: str) -> AsyncIterator[Call]:
    connector = procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=1)
    async with procrastinate.App(connector=connector).open_async() as app:
        worker = await app.job_manager.register_worker()

        async def claim(target: Target) -> str | None:
            job = await app.job_manager.fetch_job(queues=[target.queue], worker_id=worker)
            return None if job is None else str(job.id)

        yield claim


@asynccontextmanager
async def _heartbeat(url: str) -> AsyncIterator[Call]:
    query = sql("heartbeat")
    async with _connected(url) as connection:

        async def beat(target: Target) -> str | None:
            arguments = {
                "cluster": target.queue,
                "token_hash": target.token_hash,
                "agent": target.agent,
                "provision": target.provision,
            }
            row = await _as_request(connection, query, arguments)
            assert row is not None
            assert row["agent_heartbeat"]["leases"][0]["held"]
            return target.provision

        yield beat


async def _write_chunk(
    connection: _Connection, target: Target, seq: int, offset: int, text: str
) -> None:
    arguments = {
        "cluster": target.queue,
        "token_hash": target.token_hash,
        "agent": target.agent,
        "provision": target.provision,
        "seq": seq,
        "offset": offset,
        "text": text,
    }
    row = await _as_request(connection, sql("log_chunk"), arguments)
    assert row is not None
    assert row["insert_provision_logs"]["accepted"]


def _output(length: int) -> str:
    """Return text like Terraform's, which compresses to a third, not to nothing."""
    dice = random.Random(length)
    lines = ""
    while len(lines) < length:
        lines += (
            f"module.{dice.choice(_WORDS)}.aws_{dice.choice(_WORDS)}.{dice.choice(_WORDS)}"
            f"[{dice.randrange(10)}]: Creation complete after {dice.randrange(90)}s "
            f"[id={dice.choice(_WORDS)}-{dice.getrandbits(68):017x}]\n"
        )
    return lines[:length]


def _logs(chunk_bytes: int) -> "Contestant":
    text = _output(chunk_bytes)

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Call]:
        ends: dict[str, int] = {}
        async with _connected(url) as connection:

            async def write(target: Target) -> str | None:
                seq = ends.get(target.provision, 0)
                await _write_chunk(connection, target, seq, seq * chunk_bytes, text)
                ends[target.provision] = seq + 1
                return target.provision

            yield write

    return opened


@asynccontextmanager
async def _whole_run(url: str) -> AsyncIterator[Call]:
    """Claim, beat, two chunks, report: what a provision costs the database at least."""
    claim, report, beat = sql("claim_ours"), sql("final_report"), sql("heartbeat")
    text = _output(2000)
    agent = str(uuid.uuid4())
    async with _connected(url) as connection:

        async def run(target: Target) -> str | None:
            arguments = {"cluster": target.queue, "token_hash": target.token_hash, "agent": agent}
            row = await _as_request(connection, claim, {**arguments, "claim": str(uuid.uuid4())})
            if row is None:
                return None
            lease = Target(target.queue, target.token_hash, agent, f"{row['id']}")
            arguments["provision"] = lease.provision
            await _as_request(connection, beat, arguments)
            await _write_chunk(connection, lease, 0, 0, text)
            await _write_chunk(connection, lease, 1, len(text), text)
            await _as_request(connection, report, {**arguments, "chunks": 2})
            return lease.provision

        yield run


Contestant: TypeAlias = Callable[[str], AbstractAsyncContextManager[Call]]

CONTESTANTS: dict[str, Contestant] = {
    "ours": _claim("ours", "anon"),
    "same rows": _claim("same_rows", "postgres"),
    "two rows": _claim("two_rows", "postgres"),
    "bare": _claim("bare", "postgres"),
    "PgQueuer": _pgqueuer,
    "Procrastinate": _procrastinate,
    "ours, in requests": _claim("ours", "anon", in_requests=True),
    "same rows, in requests": _claim("same_rows", "postgres", in_requests=True),
    "heartbeat": _heartbeat,
    "empty poll": _empty_poll,
    "log 1 KB": _logs(1000),
    "log 10 KB": _logs(10_000),
    "whole run": _whole_run,
}
