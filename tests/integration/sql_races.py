"""Callers that do things at the same moment, and what the leases' history says of it."""

import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from psycopg.rows import DictRow

from .sql_support import Caller, Connection, connected

_T = TypeVar("_T")


def together(url: str, count: int, work: Callable[[Caller], _T]) -> list[_T]:
    """Run *work* in *count* threads, each with an agent and a connection of its own."""
    return at_once(url, *[work] * count)


def at_once(url: str, *jobs: Callable[[Caller], _T]) -> list[_T]:
    """Run each job in a thread, each with an agent and a connection of its own."""

    def one(job: Callable[[Caller], _T]) -> _T:
        with connected(url) as connection:
            return job(Caller(connection))

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def lease_history(admin: Connection) -> list[DictRow]:
    """Return what ``lease_history.sql`` has written down, in order."""
    return admin.execute(b"select * from tests.lease_history order by id").fetchall()


def most_at_once(history: list[DictRow], column: str) -> int:
    """Return the largest number of leases that ever shared a value of *column*."""
    live: Counter[object] = Counter()
    most = 0
    for entry in history:
        live[entry[column]] += 1 if entry["began"] else -1
        most = max(most, live[entry[column]])
    return most


def claim(caller: Caller) -> None:
    """Claim as a job of :func:`at_once` that answers nothing."""
    caller.claim()


def beat_as_the_lost_agent(caller: Caller) -> None:
    """Return as the agent whose apply was given up (``tests.lost_in_apply``)."""
    caller.call("agent_heartbeat", p_agent=_LOST_AGENT % _lost(caller.connection))


_LOST_AGENT = (
    '{"id": "a0000000-0000-4000-8000-000000000001",'
    ' "leases": [{"attempt": 1, "phase": "APPLY", "provision_id": "%s"}]}'
)


def _lost(connection: Connection) -> str:
    query = b"select id from public.provisions where error_code = 'AGENT_LOST_DURING_APPLY'"
    row = connection.execute(query).fetchone()
    return str(row["id"]) if row else str(uuid.uuid4())
