"""Where Supabase's Realtime and pg_cron are: wakeups by broadcast, upkeep by schedule.

Here is what lands in ``realtime.messages``; ``test_broadcasts.py`` has what is heard of it. pg_cron
is a stand-in.
"""

import json
import uuid

import anyio
import psycopg
import pytest

from tendril_rt import resources
from tendril_rt.migrate import migrate

from .sql_support import CLUSTER, Caller, Connection, Databases, connected, dump, load

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_OTHER = "c0000000-0000-4000-8000-000000000002"
_TOPIC = f"cluster:{CLUSTER}"
_BEAT = '{"id": "a0000000-0000-4000-8000-000000000001"}'


def _heard(admin: Connection) -> list[str]:
    """Return the events since the last call, after checking that they say nothing."""
    rows = admin.execute(
        b"with heard as (delete from realtime.messages returning *) select * from heard"
    ).fetchall()
    for row in rows:
        assert (row["extension"], row["topic"], row["private"]) == ("broadcast", _TOPIC, True)
        assert row["payload"] == {"id": str(row["id"])}
    return [row["event"] for row in rows]


def _as_owner(admin: Connection, call: str) -> None:
    with admin.transaction():
        admin.execute(b"select tests.as_owner(tests.alice()::text)")
        admin.execute(f"select public.{call}".encode())


def test_whatever_an_agent_should_know_wakes_it(admin: Connection) -> None:
    agent = Caller(admin)
    admin.execute(b"select tests.submit()")
    assert _heard(admin) == ["wakeup"]
    provision = agent.claim()
    assert provision is not None
    assert _heard(admin) == []
    _as_owner(admin, f"cancel_provision('{provision['id']}')")
    assert _heard(admin) == ["wakeup"]
    _as_owner(admin, f"cancel_provision('{provision['id']}')")
    assert _heard(admin) == []
    _as_owner(admin, f"cancel_provision('{provision['id']}', true)")
    assert _heard(admin) == ["wakeup"]
    agent.report(provision, "CANCELLED")
    assert _heard(admin) == ["wakeup"]
    _as_owner(admin, f"set_cluster_options('{CLUSTER}', p_drain => true)")
    assert _heard(admin) == ["wakeup"]
    _as_owner(admin, f"set_cluster_options('{CLUSTER}', p_drain => true)")
    assert _heard(admin) == []


def test_a_requeued_provision_wakes_the_agents(admin: Connection) -> None:
    admin.execute(b"select tests.submit()")
    agent = Caller(admin)
    provision = agent.claim()
    assert provision is not None
    admin.execute(b"select tests.silence(%s, '106 s')", (provision["id"],))
    _heard(admin)
    assert agent.claim() is None
    assert _heard(admin) == ["wakeup", "wakeup"]  # its lease is gone, and it is queued


def test_a_heartbeat_comes_back_as_a_pulse(admin: Connection) -> None:
    for _ in range(2):
        Caller(admin).call("agent_heartbeat", p_agent=_BEAT)
        assert _heard(admin) == ["pulse"]


@pytest.mark.parametrize(
    "fault",
    [
        "alter table realtime.messages add check (topic = '')",  # as without today's partition
        "alter table realtime.messages rename to missing",
    ],
)
def test_a_broken_realtime_breaks_nothing(admin: Connection, fault: str) -> None:
    admin.execute(fault.encode())
    admin.execute(b"select tests.submit()")
    agent = Caller(admin)
    agent.call("agent_heartbeat", p_agent=_BEAT)
    provision = agent.claim()
    assert provision is not None
    agent.report(provision, "SUCCESS")


def test_a_message_keeps_an_id_of_its_own(admin: Connection) -> None:
    admin.execute(b"""select realtime.send('{"id": 7}', 'e', 't', false)""")
    (row,) = admin.execute(b"select id, payload, private from realtime.messages").fetchall()
    assert (row["payload"], row["private"]) == ({"id": 7}, False)
    assert isinstance(row["id"], uuid.UUID)


def test_old_messages_go_as_new_ones_come(admin: Connection) -> None:
    admin.execute(
        b"insert into realtime.messages (topic, extension, inserted_at) select 't', 'broadcast',"
        b" timezone('utc', now()) - age * interval '1 min' from generate_series(31, 90) as age"
    )
    for _ in range(10):
        admin.execute(b"select realtime.send('{}', 'e', 't')")
    rows = admin.execute(
        b"select count(*) filter (where inserted_at < timezone('utc', now()) - interval '1 hour')"
        b" as old, count(*) as all from realtime.messages"
    ).fetchall()
    assert rows == [{"old": 0, "all": 29 + 10}]


@pytest.mark.parametrize(
    ("topic", "extension", "claims", "seen"),
    [
        (_TOPIC, "broadcast", {"cluster_id": CLUSTER}, 1),
        (_TOPIC, "presence", {"cluster_id": CLUSTER}, 0),
        (_TOPIC, "broadcast", {"cluster_id": _OTHER}, 0),
        (_TOPIC, "broadcast", {"cluster_id": "hostile"}, 0),
        (_TOPIC, "broadcast", {}, 0),
        (_TOPIC, "broadcast", None, 0),
        (f"cluster:{uuid.uuid4()}", "broadcast", {"cluster_id": CLUSTER}, 0),
        ("cluster:", "broadcast", {"cluster_id": ""}, 1),  # a claim that we never sign
    ],
)
def test_who_may_listen(
    admin: Connection,
    topic: str,
    extension: str,
    claims: dict[str, str] | None,
    seen: int,
) -> None:
    """Realtime asks so, with the topic set, when somebody joins a private channel."""
    with admin.transaction(force_rollback=True):
        admin.execute(
            b"insert into realtime.messages (topic, extension) values (%s, %s)", (topic, extension)
        )
        admin.execute(
            b"select set_config('realtime.topic', %s, true),"
            b" set_config('request.jwt.claims', %s, true), set_config('role', 'anon', true)",
            (topic, "" if claims is None else json.dumps({"role": "anon", **claims})),
        )
        rows = admin.execute(b"select from realtime.messages").fetchall()
    assert len(rows) == seen


def test_agents_may_not_send(admin: Connection) -> None:
    with admin.transaction(force_rollback=True):
        admin.execute(
            b"select set_config('realtime.topic', %s, true),"
            b" set_config('request.jwt.claims', %s, true), set_config('role', 'anon', true)",
            (_TOPIC, json.dumps({"role": "anon", "cluster_id": CLUSTER})),
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            admin.execute(
                b"insert into realtime.messages (topic, extension) values (%s, 'broadcast')",
                (_TOPIC,),
            )


def test_upkeep_is_scheduled_and_its_commands_run(bare_url: str) -> None:
    with connected(bare_url) as admin:
        load(admin, "pg_cron.sql")
        anyio.run(migrate, bare_url)
        _check_schedule(admin)


def _check_schedule(admin: Connection) -> None:
    jobs = admin.execute(b"select * from cron.job order by jobname").fetchall()
    assert {job["jobname"]: job["schedule"] for job in jobs} == {
        "tendril mark offline clusters": "* * * * *",
        "tendril prune logs": "17 * * * *",
        "tendril reap leases": "* * * * *",
    }
    for job in jobs:
        admin.execute(job["command"].encode())
    admin.execute(b"select tendril_private.schedule_upkeep()")
    assert len(admin.execute(b"select from cron.job").fetchall()) == len(jobs)


def test_both_may_come_later(databases: Databases, bare_url: str) -> None:
    """Without them nothing is there; the functions that attach to them may be called again."""
    with connected(bare_url) as admin:
        admin.execute(b"drop schema realtime cascade")
        anyio.run(migrate, bare_url)
        load(admin, "support.sql")
        assert "TRIGGER wake_" not in dump(databases.server, bare_url)
        admin.execute(resources.read("embedded/realtime.sql").encode())
        load(admin, "pg_cron.sql")
        for _ in range(2):
            row = admin.execute(
                b"select tendril_private.attach_realtime() as realtime,"
                b" tendril_private.schedule_upkeep() as upkeep"
            ).fetchone()
            assert row == {"realtime": True, "upkeep": True}
        admin.execute(b"select tests.submit()")
        assert _heard(admin) == ["wakeup"]
