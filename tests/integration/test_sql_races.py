"""What one session cannot show: claims, deliveries, rotations and reports that race each other."""

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from .sql_races import at_once, beat_as_the_lost_agent, claim, lease_history, most_at_once, together
from .sql_support import CLUSTER, Caller, Connection, connected, load, submit

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]


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

    assert sum(together(url, 8, work)) == 40
    history = lease_history(admin)
    begun = [entry["provision_id"] for entry in history if entry["began"]]
    in_order = admin.execute(b"select id, status, attempt from public.provisions order by seq")
    provisions = in_order.fetchall()
    assert begun == [provision["id"] for provision in provisions]
    assert {(row["status"], row["attempt"]) for row in provisions} == {("SUCCESS", 1)}
    assert 1 < most_at_once(history, "cluster_id") <= 3


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
    assert together(url, 6, work) == [answer] * 6
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
    outcomes = together(url, 8, _crash_often)

    for column in ("provision_id", "stack_key"):
        assert most_at_once(lease_history(admin), column) == 1
    assert most_at_once(lease_history(admin), "cluster_id") <= 10
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
        at_once(url, claim, beat_as_the_lost_agent)
        row = admin.execute(
            b"select count(*) as leases, bool_or(l.agent_id = tests.agent()) as taken_up"
            b" from public.provision_leases l"
        ).fetchone()
        assert row is not None
        assert row["leases"] == 1
        outcomes[row["taken_up"]] += 1
        assert most_at_once(lease_history(admin), "stack_key") == 1
        admin.execute(b"delete from public.provision_leases")
        admin.execute(b"delete from tendril_private.lost_leases")
        admin.execute(b"delete from public.provisions")
    print(f"taken up or superseded: {dict(outcomes)}")


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

    together(url, 6, work)
    live = admin.execute(
        b"select from public.cluster_tokens where cluster_id = %s and revoked_at is null",
        (CLUSTER,),
    )
    assert live.rowcount == 2


def test_first_heartbeats_at_once_register_one_agent(url: str, admin: Connection) -> None:
    agent = '{"id": "a0000000-0000-4000-8000-000000000001"}'
    together(url, 6, lambda caller: caller.call("agent_heartbeat", p_agent=agent))
    rows = admin.execute(b"select action from public.audit_events order by id").fetchall()
    assert sorted(row["action"] for row in rows) == ["agent_registered", "cluster_online"]
