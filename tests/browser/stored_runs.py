"""Runs that are only rows: what a page shows of them needs no agent."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg

from tendril_rt.model import ClusterId, ProvisionId

_PROVISION = """
    insert into provisions (cluster_id, config_snapshot)
    values (%s, '{"template_source": {"repo": "https://example.com/r", "version": "v1"}}')
    returning id::text
"""
_BEGIN = (
    "update provisions set status = 'PROCESSING', attempt = 1, started_at = now() where id = %s"
)
_END = "update provisions set status = 'SUCCESS', completed_at = clock_timestamp() where id = %s"
_CHUNKS = """
    insert into provision_logs (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
    select %(id)s, 1, %(first)s + position - 1,
      coalesce((select byte_offset + octet_length(log_chunk) from provision_logs
        where provision_id = %(id)s and attempt = 1 order by seq desc limit 1), 0)
        + coalesce(sum(octet_length(text)) over (order by position
          rows between unbounded preceding and 1 preceding), 0),
      'STDOUT', text
    from unnest(%(texts)s::text[]) with ordinality as chunk (text, position)
"""


class StoredRun:
    """A run whose log the test writes itself."""

    def __init__(self, connection: psycopg.AsyncConnection, provision_id: str) -> None:
        self._connection = connection
        self.id = ProvisionId(provision_id)
        self._next_seq = 0

    async def append(self, texts: Sequence[str], *, hole: int = 0) -> None:
        """Store chunks; *hole* numbers before them stay free."""
        self._next_seq += hole
        values = {"id": self.id, "first": self._next_seq, "texts": list(texts)}
        await self._connection.execute(_CHUNKS, values)
        self._next_seq += len(texts)

    async def end(self) -> None:
        await self._connection.execute(_END, [self.id])


@asynccontextmanager
async def stored_run(database_url: str, cluster_id: ClusterId) -> AsyncIterator[StoredRun]:
    """Begin a run on *cluster_id*, which no agent serves."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        cursor = await connection.execute(_PROVISION, [cluster_id])
        [provision_id] = await cursor.fetchone() or [""]
        await connection.execute(_BEGIN, [provision_id])
        yield StoredRun(connection, provision_id)
