"""What ``bench.claims`` measures beside claims: heartbeats, logs, whole runs, WAL, empty polls."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from bench.claims_contestants import Target, sql
from bench.claims_crew import Crew, Task

_WARM_S = 1.0  # until what is written once per row and per page has been written
_POLLS = 200
_TRIES = 5


@dataclass(frozen=True)
class Writes:
    """Calls of one kind: how many a second, and the WAL that each one wrote."""

    per_s: float
    wal_bytes: float


def measure(
    crew: Crew,
    contestant: str,
    url: str,
    targets: Sequence[Target],
    *,
    agents: int,
    record_s: float,
) -> Writes:
    """Let *agents* share the *targets*; nothing else may write meanwhile."""
    begun: list[tuple[float, int]] = []
    warm_until = time.monotonic() + _WARM_S
    with psycopg.connect(url, autocommit=True) as admin:

        def note() -> None:
            if not begun and time.monotonic() > warm_until:
                begun.append((time.monotonic(), _wal_bytes(admin)))

        work = crew.work(
            [Task(contestant, url, tuple(targets[n::agents])) for n in range(agents)],
            warm_s=_WARM_S,
            record_s=record_s,
            meanwhile=note,
        )
        ((begun_at, before),) = begun
        took_s, written = time.monotonic() - begun_at, _wal_bytes(admin) - before
    per_s = len(work.took_s) / record_s
    return Writes(per_s, written / (per_s * took_s))


def stored_bytes(url: str) -> tuple[float, float]:
    """Return the bytes on disk of one provision, and of one byte of log; indexes included."""
    with psycopg.connect(url, autocommit=True) as admin:
        row = admin.execute(sql("stored_bytes")).fetchone()
    assert row is not None
    return float(row[0]), float(row[1])


def wal_of_empty_polls(url: str, cluster: Target) -> int:
    """Return the bytes of WAL that claims wrote which found nothing queued; 0 is what they should.

    The least of several tries: the server itself writes a little now and then.
    """
    arguments = {
        "cluster": cluster.queue,
        "token_hash": cluster.token_hash,
        "agent": "a0000000-0000-4000-8000-000000000001",
        "claim": "c0000000-0000-4000-8000-000000000001",
    }
    least: int | None = None
    with psycopg.connect(url, autocommit=True) as agent, psycopg.connect(url) as admin:
        admin.autocommit = True
        agent.execute(b"set role anon")
        for _ in range(_TRIES):
            before = _wal_bytes(admin)
            for _ in range(_POLLS):
                found = agent.execute(sql("claim_ours"), arguments, prepare=True).fetchone()
                assert found is None
            written = _wal_bytes(admin) - before
            least = written if least is None else min(least, written)
    return least or 0


def _wal_bytes(admin: psycopg.Connection) -> int:
    row = admin.execute(sql("wal_position")).fetchone()
    assert row is not None
    return int(row[0])
