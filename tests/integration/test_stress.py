"""Agents that crash at every step, all at once, on one control plane; judged from the database.

Each agent is a thread with a connection of its own. Leases live for fractions of a second, and only
heartbeats and claims reap. The dice are seeded, the threads are not: a seed repeats the mixture of
faults, not their order.
"""

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from anyio.from_thread import start_blocking_portal
from psycopg.rows import DictRow

from tendril_rt.local import postgres

from .sql_support import Connection, Databases, connected, load
from .stress_agents import LEASE_TTL_S, TOKEN_HASHES, Agent

pytestmark = pytest.mark.integration

_AGENTS = 14
_QUEUED = 60
_STACKS = [str(uuid.UUID(int=n)) for n in range(1, 13)]
_LIMITS = dict(zip(TOKEN_HASHES, (3, 6), strict=True))
_END_S = 60.0  # for what is left when nothing more is submitted
_HURRY = (
    b"update tendril_private.settings set lease_ttl = make_interval(secs => %s),"
    b" reap_grace = '0.1 s', lost_after = '0.8 s', retry_base = '0.02 s', retry_cap = '0.2 s',"
    b" sweep_every = '0.1 s'"
)
#: Every agent that does not return leaves its row behind, and a cluster may have a thousand.
_FORGET = b"delete from public.agents where last_seen < now() - interval '10 s'"


@pytest.fixture
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("postgres") / "server"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(postgres.running(folder)) as server,
    ):
        yield Databases(server)


@pytest.mark.timeout(150)
def test_a_short_stress(databases: Databases) -> None:
    _stress(databases, 16.0)


@pytest.mark.timeout(150)
def test_a_short_stress_side_by_side(databases: Databases) -> None:
    _stress(databases, 16.0, side_by_side=True)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_minute_of_stress(databases: Databases, side_by_side: bool) -> None:
    _stress(databases, 75.0, side_by_side=side_by_side)


def _stress(databases: Databases, duration_s: float, *, side_by_side: bool = False) -> None:
    seed = int(os.environ.get("STRESS_SEED", random.randrange(2**32)))
    print(f"STRESS_SEED={seed} throws the same dice")  # pytest shows it when the test fails
    with databases.copy("ready") as url, connected(url) as admin:
        load(admin, "lease_history.sql")
        if side_by_side:
            load(admin, "side_by_side.sql")
        admin.execute(_HURRY, (LEASE_TTL_S,))
        for cluster, limit in _LIMITS.items():
            admin.execute(
                b"update public.clusters set max_concurrency = %s where id = %s", (limit, cluster)
            )
        agents = _run(url, admin, seed, duration_s)
        counts = sum((agent.counts for agent in agents), Counter[str]())
        print(f"{dict(sorted(counts.items()))}\n{_outcomes(admin)}")
        assert _faults(admin, agents, side_by_side=side_by_side) == []
        _assert_it_was_stress(admin, counts)


def _run(url: str, admin: Connection, seed: int, duration_s: float) -> list[Agent]:
    """Keep the queue filled for a while, then wait until everything has ended."""
    over = threading.Event()
    dice = random.Random(seed)
    agents = [Agent(url, random.Random(f"{seed} {n}"), over) for n in range(_AGENTS)]
    started_at = time.monotonic()
    with ThreadPoolExecutor(_AGENTS) as pool:
        lives = [pool.submit(agent.live) for agent in agents]
        try:
            while time.monotonic() < started_at + duration_s:
                assert not any(life.done() for life in lives), "an agent stopped"
                if _count(admin, "QUEUED") < _QUEUED:
                    _submit(admin, dice)
                admin.execute(_FORGET)
                time.sleep(0.05)
            ends_at = time.monotonic() + _END_S
            while left := _count(admin, "QUEUED") + _count(admin, "PROCESSING"):
                assert time.monotonic() < ends_at, f"{left} provisions never ended"
                time.sleep(0.05)
        finally:
            over.set()
            done = [life.result() for life in lives]
    return done


def _submit(admin: Connection, dice: random.Random) -> None:
    """Queue a few; two of five are of stacks that others are of too, on either cluster."""
    for _ in range(10):
        stack = (
            dice.choice(_STACKS)
            if dice.random() < 0.4
            else str(uuid.UUID(int=dice.getrandbits(128)))
        )
        cluster = dice.choice(list(TOKEN_HASHES))
        admin.execute(b"select tests.submit(%s::uuid, %s::uuid)", (stack, cluster))


def _count(admin: Connection, status: str) -> int:
    query = b"select count(*) as n from public.provisions where status = %s"
    row = admin.execute(query, (status,)).fetchone()
    assert row is not None
    return int(row["n"])


def _outcomes(admin: Connection) -> dict[str, int]:
    rows = admin.execute(
        b"select concat_ws(' ', status, error_code) as outcome, count(*) as n"
        b" from public.provisions group by 1 order by 1"
    )
    return {row["outcome"]: row["n"] for row in rows}


def _assert_it_was_stress(admin: Connection, counts: Counter[str]) -> None:
    """Every kind of crash at every step, and every consequence, has really happened."""
    functions = (
        "fetch_next_provision",
        "agent_heartbeat",
        "insert_provision_logs",
        "update_provision_status",
    )
    for function in functions:
        for when in ("before", "unanswered", "after"):
            assert counts[f"crash {when} {function}"] > 0
    for what in ("fenced", "replayed", "stalled", "abandoned"):
        assert counts[what] > 0
    outcomes = _outcomes(admin)
    assert outcomes["SUCCESS"] > 50
    assert outcomes.get("FAILED AGENT_LOST_DURING_APPLY", 0) > 0
    retried = admin.execute(b"select from public.provisions where attempt > 1 limit 1").fetchall()
    assert retried


# --- the judge ---------------------------------------------------------------------------------


def _faults(admin: Connection, agents: list[Agent], *, side_by_side: bool) -> list[str]:
    """Return every broken promise."""
    history = admin.execute(
        b"select h.*, p.seq from tests.lease_history h"
        b" join public.provisions p on p.id = h.provision_id order by h.id"
    ).fetchall()
    return [
        *_handed_out_twice(agents),
        *_applied_again(admin, agents),
        *_reported_by_another(admin, agents),
        *_run_at_once(history),
        *_out_of_order(history, within_stacks_only=side_by_side),
        *_broken_logs(admin),
        *_left_over(admin),
    ]


def _handed_out_twice(agents: list[Agent]) -> Iterator[str]:
    owners: dict[tuple[str, int], set[str]] = {}
    for agent in agents:
        for attempt, ids in agent.claims.items():
            owners.setdefault(attempt, set()).update(ids)
    for attempt, ids in owners.items():
        if len(ids) > 1:
            yield f"attempt {attempt} was handed out to {len(ids)} agents"


def _applied_again(admin: Connection, agents: list[Agent]) -> Iterator[str]:
    """Find provisions that were tried again although an attempt had got as far as APPLY."""
    rows = admin.execute(b"select id, attempt from public.provisions where attempt > 1")
    newest = {str(row["id"]): row["attempt"] for row in rows}
    for agent in agents:
        for provision, attempt in agent.applies:
            if newest.get(provision, attempt) > attempt:
                yield f"{provision} was tried again after attempt {attempt} was applying"


def _reported_by_another(admin: Connection, agents: list[Agent]) -> Iterator[str]:
    """Find accepted reports that are not the last attempt's, or not what the provision says."""
    rows = admin.execute(
        b"select id, attempt, claimed_by, status from public.provisions"
    ).fetchall()
    last = {str(row["id"]): (row["attempt"], str(row["claimed_by"]), row["status"]) for row in rows}
    seen: set[str] = set()
    for agent in agents:
        for provision, *report in agent.reports:
            if tuple(report) != last[provision] or provision in seen:
                yield f"{provision} was reported by {report}, and it is {last[provision]}"
            seen.add(provision)


def _run_at_once(history: list[DictRow]) -> Iterator[str]:
    """Find two leases of a provision or stack at once, and claims beyond a cluster's limit."""
    live: Counter[object] = Counter()
    claimed: set[object] = set()
    taken_up: set[object] = set()
    for entry in history:
        cluster, attempt = str(entry["cluster_id"]), (entry["provision_id"], entry["attempt"])
        step = 1 if entry["began"] else -1
        for key in (entry["provision_id"], entry["stack_key"]):
            live[key] += step
            if live[key] not in (0, 1):
                yield f"{live[key]} leases of {key} at once"
        # An apply that was given up and is heard again is let in whatever the limit: it is running.
        if entry["began"] and attempt in claimed:
            taken_up.add(attempt)
        claimed.add(attempt)
        if attempt not in taken_up:
            live[cluster] += step
            if live[cluster] > _LIMITS[cluster]:
                yield f"{live[cluster]} claimed at once on {cluster}, in spite of its limit"


def _out_of_order(history: list[DictRow], *, within_stacks_only: bool) -> Iterator[str]:
    """Find a provision that began before an earlier one of its stack had begun for the last time.

    And of those that share their stack with none: one that was first claimed before an earlier one,
    unless claims may overtake each other.
    """
    newest: dict[object, int] = {}
    begun: set[object] = set()
    for entry in history:
        if not entry["began"]:
            continue
        queue = (entry["cluster_id"], entry["stack_key"])
        if entry["seq"] < newest.get(queue, 0):
            yield f"seq {entry['seq']} of stack {queue} began after {newest[queue]}"
        newest[queue] = max(entry["seq"], newest.get(queue, 0))
        # Not when an apply is heard again: that one began long ago.
        is_new = entry["provision_id"] not in begun and entry["stack_key"] not in _STACKS
        if is_new and not within_stacks_only:
            cluster = entry["cluster_id"]
            if entry["seq"] < newest.get(cluster, 0):
                yield f"seq {entry['seq']} of cluster {cluster} began after {newest[cluster]}"
            newest[cluster] = max(entry["seq"], newest.get(cluster, 0))
        begun.add(entry["provision_id"])


def _broken_logs(admin: Connection) -> Iterator[str]:
    """Find gaps, offsets that do not add up, and chunks of another attempt than they are under."""
    rows = admin.execute(
        b"select l.*, row_number() over w - 1 as place,"
        b" sum(octet_length(l.log_chunk)) over w - octet_length(l.log_chunk) as bytes"
        b" from public.provision_logs l"
        b" window w as (partition by l.provision_id, l.attempt order by l.seq)"
    )
    for row in rows:
        expected = f"{row['provision_id']} {row['attempt']} {row['seq']} "
        if row["seq"] != row["place"] or row["byte_offset"] != row["bytes"]:
            yield f"a gap before chunk {expected}"
        if not row["log_chunk"].startswith(expected):
            yield f"chunk {expected}is {row['log_chunk']!r}"


def _left_over(admin: Connection) -> Iterator[str]:
    if _count(admin, "QUEUED") or _count(admin, "PROCESSING"):
        yield "not every provision ended"
    if admin.execute(b"select from public.provision_leases").fetchall():
        yield "a lease is left"
    allowed = {"SUCCESS", "FAILED", "FAILED AGENT_LOST", "FAILED AGENT_LOST_DURING_APPLY"}
    for outcome in set(_outcomes(admin)) - allowed:
        yield f"nobody asked for {outcome}"
    query = b"select deadlocks from pg_stat_database where datname = current_database()"
    for row in admin.execute(query):
        if row["deadlocks"]:
            yield f"{row['deadlocks']} deadlocks"
