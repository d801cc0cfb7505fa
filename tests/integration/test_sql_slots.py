"""The limit of a cluster, under many claimers: exact whatever else happens meanwhile."""

import threading
import uuid
from typing import TYPE_CHECKING

import pytest

from .sql_races import at_once, beat_as_the_lost_agent, claim, lease_history, most_at_once, together
from .sql_support import CLUSTER, Caller, Connection, load, submit

if TYPE_CHECKING:
    from psycopg.rows import DictRow

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_CLAIMERS = 12


@pytest.fixture(params=["in turn", "side by side"])
def way_of_claiming(request: pytest.FixtureRequest, admin: Connection) -> str:
    """Small clusters as they are, and as if they were large ones."""
    if request.param == "side by side":
        load(admin, "side_by_side.sql")
    return str(request.param)


@pytest.mark.usefixtures("way_of_claiming")
def test_the_limit_is_exact_for_many_claimers(url: str, admin: Connection) -> None:
    """They all want slots at once, and each time as many get one as there are."""
    load(admin, "lease_history.sql")
    admin.execute(b"update public.clusters set max_concurrency = 5")
    submit(admin, 60)
    for _ in range(10):
        answers = together(url, _CLAIMERS, lambda agent: agent.claim())
        assert sum(answer is not None for answer in answers) == 5
        slots = admin.execute(b"select slot from public.provision_leases order by slot").fetchall()
        assert [row["slot"] for row in slots] == [1, 2, 3, 4, 5]
        admin.execute(b"delete from public.provision_leases")
    assert most_at_once(lease_history(admin), "cluster_id") == 5


@pytest.mark.usefixtures("way_of_claiming")
def test_a_lowered_limit_holds_at_once(url: str, admin: Connection) -> None:
    """From the answer to the owner on, nothing begins while as many run as the new limit allows."""
    load(admin, "lease_history.sql")
    over = threading.Event()
    low: list[range] = []  # the parts of the history that were written under the low limit

    def work(agent: Caller) -> None:
        running: list[DictRow] = []
        while not over.is_set():
            if (provision := agent.claim()) is not None:
                running.append(provision)
            if running and (provision is None or len(running) > 1):
                agent.report(running.pop(0), "SUCCESS")

    def own(owner: Caller) -> None:
        try:
            for _ in range(15):
                _set_limit(owner.connection, 2)
                begins_at = _written(admin) + 1
                low.append(range(begins_at, _keep_busy_until(admin, begins_at + 6)))
                _set_limit(owner.connection, 8)
                _keep_busy_until(admin, _written(admin) + 6)
        finally:
            over.set()

    at_once(url, *[work] * _CLAIMERS, own)
    live = begun = 0
    for entry in lease_history(admin):
        if entry["began"] and any(entry["id"] in part for part in low):
            begun += 1
            assert live < 2, f"{live} ran when entry {entry['id']} began"
        live += 1 if entry["began"] else -1
        assert live <= 8
    assert begun > 0


def _set_limit(connection: Connection, limit: int) -> None:
    with connection.transaction():
        connection.execute(b"select tests.as_owner(tests.alice()::text)")
        connection.execute(b"select public.set_cluster_options(%s::uuid, %s)", (CLUSTER, limit))


def _written(admin: Connection) -> int:
    row = admin.execute(b"select coalesce(max(id), 0) as id from tests.lease_history").fetchone()
    assert row is not None
    return int(row["id"])


def _keep_busy_until(admin: Connection, entry: int) -> int:
    """Submit until the history has got so far; return how far."""
    while (written := _written(admin)) < entry:
        admin.execute(b"select tests.submit()")
    return written


@pytest.mark.usefixtures("way_of_claiming")
def test_what_is_taken_up_meanwhile_comes_on_top_of_the_limit(url: str, admin: Connection) -> None:
    """Claims alone never exceed it; and none is made while the attempt on top is one too many."""
    admin.execute(b"update public.clusters set max_concurrency = 3")
    for _ in range(10):
        admin.execute(b"select tests.lost_in_apply()")
        submit(admin, 20)
        at_once(
            url, *[claim] * (_CLAIMERS // 2), beat_as_the_lost_agent, *[claim] * (_CLAIMERS // 2)
        )
        rows = admin.execute(
            b"select provision_id, slot, agent_id = tests.agent() as taken_up"
            b" from public.provision_leases order by slot"
        ).fetchall()
        assert sum(row["taken_up"] for row in rows) == 1
        claimed = [row for row in rows if not row["taken_up"]]
        assert {row["slot"] for row in claimed} <= {1, 2, 3}
        assert len(rows) in (3, 4)
        for left in range(len(rows) - 1, 1, -1):
            admin.execute(
                b"delete from public.provision_leases where provision_id = %s",
                (claimed.pop()["provision_id"],),
            )
            assert (Caller(admin).claim() is None) == (left >= 3)
        admin.execute(b"delete from public.provision_leases")
        admin.execute(b"delete from public.provisions")


@pytest.mark.usefixtures("way_of_claiming")
def test_a_claim_sent_twice_at_once_takes_one_provision(url: str, admin: Connection) -> None:
    for _ in range(10):
        submit(admin, 1)  # while one sending takes it, the others find nothing
        claim_id, agent_id = str(uuid.uuid4()), str(uuid.uuid4())

        def work(caller: Caller, claim_id: str = claim_id, agent_id: str = agent_id) -> object:
            return Caller(caller.connection, agent_id=agent_id).claim(claim_id)

        answers = together(url, 4, work)
        assert answers[0] is not None
        assert answers == [answers[0]] * 4
        admin.execute(b"delete from public.provision_leases")


def test_side_by_side_each_stack_keeps_its_order(url: str, admin: Connection) -> None:
    """Different stacks may overtake each other there, but nothing is claimed twice or left out."""
    load(admin, "side_by_side.sql")
    load(admin, "lease_history.sql")
    submit(admin, 60, stacks=10)

    def work(agent: Caller) -> None:
        unfinished = b"select from public.provisions where status = 'QUEUED' limit 1"
        while agent.connection.execute(unfinished).fetchall():
            if (provision := agent.claim()) is not None:
                agent.report(provision, "SUCCESS")

    together(url, _CLAIMERS, work)
    history = lease_history(admin)
    assert most_at_once(history, "stack_key") == 1
    begun = [(entry["stack_key"], entry["provision_id"]) for entry in history if entry["began"]]
    rows = admin.execute(b"select stack_key, id from public.provisions order by seq").fetchall()
    provisions = [(row["stack_key"], row["id"]) for row in rows]
    # Sorting keeps the order of what is equal.
    assert sorted(begun, key=lambda one: one[0]) == sorted(provisions, key=lambda one: one[0])
