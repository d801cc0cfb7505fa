"""What one session cannot show: claims, deliveries, rotations and reports that race each other."""

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg
import pytest
from psycopg.rows import DictRow

from .sql_support import CLUSTER, Caller, Connection, connected, load, submit

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_T = TypeVar("_T")
_CLAIMERS = 12


def _together(url: str, count: int, work: Callable[[Caller], _T]) -> list[_T]:
    """Run *work* in *count* threads, each with an agent and a connection of its own."""
    return _at_once(url, *[work] * count)


def _at_once(url: str, *jobs: Callable[[Caller], _T]) -> list[_T]:
    """Run each job in a thread, each with an agent and a connection of its own."""

    def one(job: Callable[[Caller], _T]) -> _T:
        with connected(url) as connection:
            return job(Caller(connection))

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(one, jobs))


def _history(admin: Connection) -> list[DictRow]:
    return admin.execute(b"select * from tests.lease_history order by id").fetchall()


def _most_at_once(history: list[DictRow], column: str) -> int:
    """Return the largest number of leases that ever shared a value of *column*."""
    live: Counter[object] = Counter()
    most = 0
    for entry in history:
        live[entry[column]] += 1 if entry["began"] else -1
        most = max(most, live[entry[column]])
    return most


def test_concurrent_claimers_share_a_queue(url: str, admin: Connection) -> None:
    load(admin, "lease_history.sql")
    admin.execute(b"update public.clusters set max_concurrency = 3")
    submit(admin, 40)

    def work(agent: Caller) -> int:
        claimed = 0
        while admin_sees_work(agent):
            if (provision := agent.claim()) is not None:
                agent.report(provision, "SUCCESS")
                claimed += 1
        return claimed

    def admin_sees_work(agent: Caller) -> bool:
        query = b"select from public.provisions where status = 'QUEUED' limit 1"
        return bool(agent.connection.execute(query).fetchall())

    assert sum(_together(url, 8, work)) == 40
    history = _history(admin)
    begun = [entry["provision_id"] for entry in history if entry["began"]]
    in_order = admin.execute(b"select id, status, attempt from public.provisions order by seq")
    provisions = in_order.fetchall()
    assert begun == [provision["id"] for provision in provisions]
    assert {(row["status"], row["attempt"]) for row in provisions} == {("SUCCESS", 1)}
    assert 1 < _most_at_once(history, "cluster_id") <= 3


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
        answers = _together(url, _CLAIMERS, lambda agent: agent.claim())
        assert sum(answer is not None for answer in answers) == 5
        slots = admin.execute(b"select slot from public.provision_leases order by slot").fetchall()
        assert [row["slot"] for row in slots] == [1, 2, 3, 4, 5]
        admin.execute(b"delete from public.provision_leases")
    assert _most_at_once(_history(admin), "cluster_id") == 5


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

    _at_once(url, *[work] * _CLAIMERS, own)
    live = begun = 0
    for entry in _history(admin):
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
        _at_once(url, *[_claim] * (_CLAIMERS // 2), _return, *[_claim] * (_CLAIMERS // 2))
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

    _together(url, _CLAIMERS, work)
    history = _history(admin)
    assert _most_at_once(history, "stack_key") == 1
    begun = [(entry["stack_key"], entry["provision_id"]) for entry in history if entry["began"]]
    rows = admin.execute(b"select stack_key, id from public.provisions order by seq").fetchall()
    provisions = [(row["stack_key"], row["id"]) for row in rows]
    # Sorting keeps the order of what is equal.
    assert sorted(begun, key=lambda one: one[0]) == sorted(provisions, key=lambda one: one[0])


@pytest.mark.usefixtures("way_of_claiming")
def test_a_claim_sent_twice_at_once_takes_one_provision(url: str, admin: Connection) -> None:
    for _ in range(10):
        submit(admin, 1)  # while one sending takes it, the others find nothing
        claim_id, agent_id = str(uuid.uuid4()), str(uuid.uuid4())

        def work(caller: Caller, claim_id: str = claim_id, agent_id: str = agent_id) -> object:
            return Caller(caller.connection, agent_id=agent_id).claim(claim_id)

        answers = _together(url, 4, work)
        assert answers[0] is not None
        assert answers == [answers[0]] * 4
        admin.execute(b"delete from public.provision_leases")


def test_a_batch_sent_twice_at_once_is_stored_once(url: str, admin: Connection) -> None:
    submit(admin, 1)
    author = Caller(admin)
    provision = author.claim()
    assert provision is not None
    chunks = ", ".join(f'{{"s": "STDOUT", "o": {offset}, "t": "x"}}' for offset in range(100))

    def work(caller: Caller) -> object:
        return caller.call(
            "insert_provision_logs",
            p_provision_id=provision["id"],
            p_attempt=1,
            p_agent_id=author.agent_id,
            p_first_seq=0,
            p_chunks=f"[{chunks}]",
        )[0]["insert_provision_logs"]

    answer = {"next_seq": 100, "accepted": True, "cancel": "none"}
    assert _together(url, 6, work) == [answer] * 6
    stored = admin.execute(b"select seq, byte_offset from public.provision_logs order by seq")
    assert [(row["seq"], row["byte_offset"]) for row in stored] == [(n, n) for n in range(100)]


def test_nothing_runs_twice_under_crashing_agents(url: str, admin: Connection) -> None:
    """Agents that vanish, return late, and report what is no longer theirs."""
    load(admin, "lease_history.sql")
    admin.execute(
        b"update tendril_private.settings set lease_ttl = '50 ms', reap_grace = '0',"
        b" retry_base = '0', sweep_every = '0'"
    )
    submit(admin, 80, stacks=30)
    admin.execute(b"update public.provisions set max_attempts = 20")
    outcomes = _together(url, 8, _crash_often)

    for column in ("provision_id", "stack_key"):
        assert _most_at_once(_history(admin), column) == 1
    assert _most_at_once(_history(admin), "cluster_id") <= 10
    rows = admin.execute(b"select status, attempt from public.provisions").fetchall()
    assert {row["status"] for row in rows} == {"SUCCESS"}
    assert sum(finished for finished, _ in outcomes) == 80
    assert sum(fenced for _, fenced in outcomes) > 0
    assert max(row["attempt"] for row in rows) > 1
    logs = admin.execute(
        b"select count(*) as chunks, max(seq) + 1 as ends from public.provision_logs"
        b" group by provision_id, attempt"
    )
    assert all(row["chunks"] == row["ends"] for row in logs)


def _crash_often(agent: Caller) -> tuple[int, int]:
    """Work until nothing is left; return how many attempts were finished and how many fenced."""
    dice = random.Random(agent.agent_id)
    finished = fenced = 0
    unfinished = b"select from public.provisions where status in ('QUEUED', 'PROCESSING') limit 1"
    while agent.connection.execute(unfinished).fetchall():
        provision = agent.claim()
        if provision is None:
            time.sleep(0.005)
            continue
        fate = dice.random()
        if fate < 0.2:
            continue  # gone for good
        try:
            agent.call(
                "insert_provision_logs",
                p_provision_id=provision["id"],
                p_attempt=provision["attempt"],
                p_agent_id=agent.agent_id,
                p_first_seq=0,
                p_chunks='[{"s": "STDOUT", "o": 0, "t": "x"}]',
            )
            if fate < 0.4:
                time.sleep(0.1)  # returns after its lease has expired
            agent.report(provision, "SUCCESS", 1)
            finished += 1
        except psycopg.Error as refusal:
            if refusal.sqlstate != "PT409":
                raise
            fenced += 1
    return finished, fenced


def test_a_lost_attempt_and_a_later_provision_never_share_a_stack(
    url: str, admin: Connection
) -> None:
    """The silent agent returns just when the next provision of its stack is claimed."""
    load(admin, "lease_history.sql")
    outcomes: Counter[bool] = Counter()
    for _ in range(30):
        admin.execute(b"select tests.lost_in_apply(tests.alice())")
        admin.execute(b"select tests.submit(tests.alice())")
        _at_once(url, _claim, _return)
        row = admin.execute(
            b"select count(*) as leases, bool_or(l.agent_id = tests.agent()) as taken_up"
            b" from public.provision_leases l"
        ).fetchone()
        assert row is not None
        assert row["leases"] == 1
        outcomes[row["taken_up"]] += 1
        assert _most_at_once(_history(admin), "stack_key") == 1
        admin.execute(b"delete from public.provision_leases")
        admin.execute(b"delete from tendril_private.lost_leases")
        admin.execute(b"delete from public.provisions")
    print(f"taken up or superseded: {dict(outcomes)}")


def _claim(caller: Caller) -> None:
    caller.claim()


def _return(caller: Caller) -> None:
    caller.call("agent_heartbeat", p_agent=_LOST_AGENT % _lost(caller.connection))


_LOST_AGENT = (
    '{"id": "a0000000-0000-4000-8000-000000000001",'
    ' "leases": [{"attempt": 1, "phase": "APPLY", "provision_id": "%s"}]}'
)


def _lost(connection: Connection) -> str:
    query = b"select id from public.provisions where error_code = 'AGENT_LOST_DURING_APPLY'"
    row = connection.execute(query).fetchone()
    return str(row["id"]) if row else str(uuid.uuid4())


def test_an_agent_that_beats_while_it_is_given_up_is_not_told_to_stop(
    url: str, admin: Connection
) -> None:
    """Its heartbeat waits for the lease, finds it gone, and takes it up again."""
    submit(admin, 1)
    agent = Caller(admin)
    provision = agent.claim()
    assert provision is not None
    lease = f'{{"provision_id": "{provision["id"]}", "attempt": 1, "phase": "APPLY"}}'
    beat = f'{{"id": "{agent.agent_id}", "leases": [{lease}]}}'
    agent.call("agent_heartbeat", p_agent=beat)
    admin.execute(b"select tests.silence(%s, '17 min')", (provision["id"],))
    with connected(url) as other, ThreadPoolExecutor(1) as pool:
        returning = Caller(other, agent_id=agent.agent_id)
        with admin.transaction():
            admin.execute(b"select tendril_private.reap_lease(%s)", (provision["id"],))
            answer = pool.submit(returning.call, "agent_heartbeat", p_agent=beat)
            waiting = b"select from pg_stat_activity where wait_event_type = 'Lock' and pid = %s"
            while not admin.execute(waiting, (other.info.backend_pid,)).fetchall():
                time.sleep(0.01)
        (row,) = answer.result()
    assert row["agent_heartbeat"]["leases"][0]["held"] is True
    agent.report(provision, "SUCCESS")


def test_rotations_at_once_never_leave_three_tokens(url: str, admin: Connection) -> None:
    def work(caller: Caller) -> None:
        with caller.connection.transaction():
            caller.connection.execute(b"select tests.as_owner(tests.alice()::text)")
            try:
                caller.connection.execute(
                    b"select public.rotate_cluster_token(%s::uuid)", (CLUSTER,)
                )
            except psycopg.Error as refusal:
                if refusal.sqlstate != "PT422":
                    raise
                raise psycopg.Rollback from None

    _together(url, 6, work)
    live = admin.execute(
        b"select from public.cluster_tokens where cluster_id = %s and revoked_at is null",
        (CLUSTER,),
    )
    assert live.rowcount == 2


def test_first_heartbeats_at_once_register_one_agent(url: str, admin: Connection) -> None:
    agent = '{"id": "a0000000-0000-4000-8000-000000000001"}'
    _together(url, 6, lambda caller: caller.call("agent_heartbeat", p_agent=agent))
    rows = admin.execute(b"select action from public.audit_events order by id").fetchall()
    assert sorted(row["action"] for row in rows) == ["agent_registered", "cluster_online"]
