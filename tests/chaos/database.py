"""The harness's own way into the database: as its owner, past every proxy.

Every call opens a connection of its own, since the server comes and goes.

:raises: psycopg.OperationalError while it is away
"""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import LiteralString

import orjson
import psycopg
from psycopg.rows import DictRow, dict_row

from tendril_rt.control.snapshot import snapshot_hash
from tendril_rt.local.plane import USER_ID
from tests.chaos.evidence import AuditRow, Chunk, Row
from tests.chaos.script import Run

#: An agent trusts its lease until 15 s before its end: with less, a loaded machine would end it.
_HURRY = (
    "update tendril_private.settings set lease_ttl = '30 s', reap_grace = '3 s',"
    " lost_after = '5 s', retry_base = '0.2 s', retry_cap = '1 s', sweep_every = '1 s',"
    " outage_after = '10 s'"
)
_REGISTER = "select public.register_cluster(%s, %s) as answer"
_SUBMIT = (
    "insert into public.provisions (id, cluster_id, stack_key, config_snapshot,"
    " configuration_hash) values (%s, %s, %s, %s, %s) on conflict (id) do nothing"
)
_CANCEL = "select public.cancel_provision(%s, %s) as answer"
_STANDING = (
    "select id::text, status, claimed_by::text as agent_id,"
    " coalesce(error_code, '') = 'AGENT_LOST_DURING_APPLY'"
    " and not execution_metadata ? 'late_result' as is_provisional from public.provisions"
)
_ROWS = (
    "select id::text, seq, stack_key, status, attempt, claimed_by::text, error_code, error_message,"
    " execution_metadata, extract(epoch from completed_at)::float8 as completed_at,"
    " exists (select from public.provision_leases l where l.provision_id = p.id) as has_lease"
    " from public.provisions p"
)
_CHUNKS = (
    "select provision_id::text, attempt, seq, byte_offset, stream_type as stream,"
    " log_chunk as text from public.provision_logs order by provision_id, attempt, seq"
)
_AUDIT = (
    "select provision_id::text, action, agent_id::text, extract(epoch from at)::float8 as at"
    " from public.audit_events where provision_id is not null order by id"
)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a provision is.

    :ivar agent_id: who has it, or had it last
    :ivar is_provisional: a verdict on a silent agent, which its return withdraws
    """

    id: str
    status: str
    agent_id: str | None
    is_provisional: bool


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
    connection = await psycopg.AsyncConnection.connect(
        url, autocommit=True, row_factory=dict_row, connect_timeout=5
    )
    async with connection:
        yield connection


async def _rows(url: str, query: LiteralString, values: Sequence[object] = ()) -> list[DictRow]:
    async with _connected(url) as connection:
        cursor = await connection.execute(query, values)
        return await cursor.fetchall()


async def hurry(url: str) -> None:
    """Shorten the control plane's patience."""
    async with _connected(url) as connection:
        await connection.execute(_HURRY)


async def register(url: str, name: str) -> tuple[str, str]:
    """Make a cluster for two agents; return its id and token."""
    answer = await _as_owner(url, _REGISTER, (name, 2))
    return str(answer["cluster_id"]), str(answer["token"])


async def cancel(url: str, provision_id: str, *, force: bool) -> bool:
    """Ask for the end of a provision, as its owner; False if it had ended before.

    May be repeated when its answer is lost.
    """
    answer = await _as_owner(url, _CANCEL, (provision_id, force))
    return answer["cancel"] != "none"


async def _as_owner(
    url: str, query: LiteralString, values: Sequence[object]
) -> Mapping[str, object]:
    claims = orjson.dumps({"sub": USER_ID, "role": "authenticated"}).decode()
    async with _connected(url) as connection:
        await connection.execute("select set_config('request.jwt.claims', %s, false)", (claims,))
        cursor = await connection.execute(query, values)
        row = await cursor.fetchone()
    assert row is not None
    answer: Mapping[str, object] = row["answer"]
    return answer


async def submit(
    url: str, provision_id: str, cluster_id: str, run: Run, snapshot: Mapping[str, object]
) -> None:
    """Queue a provision under an id of ours, so that it may be repeated when its answer is lost."""
    text = orjson.dumps(snapshot).decode()
    async with _connected(url) as connection:
        await connection.execute(
            _SUBMIT, (provision_id, cluster_id, run.stack, text, snapshot_hash(text))
        )


async def standing(url: str) -> dict[str, Standing]:
    """Return where every provision stands, by its id."""
    return {row["id"]: Standing(**row) for row in await _rows(url, _STANDING)}


async def evidence(url: str) -> tuple[list[Row], list[Chunk], list[AuditRow]]:
    """Read what the judge needs."""
    rows = [Row(**row) for row in await _rows(url, _ROWS)]
    chunks = [Chunk(**row) for row in await _rows(url, _CHUNKS)]
    audit = [AuditRow(**row) for row in await _rows(url, _AUDIT)]
    return rows, chunks, audit


def new_id() -> str:
    return str(uuid.uuid4())
