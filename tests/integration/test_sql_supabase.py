"""Where Supabase's Realtime and pg_cron are: wakeups by broadcast, upkeep by schedule.

Over stand-ins for both, made before the migrations; the real Realtime is in no registry.
"""

import json
import uuid
from collections.abc import Iterator

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


@pytest.fixture(scope="session")
def prepared(databases: Databases) -> Iterator[str]:
    """The name of a database that had Realtime and pg_cron before the migrations."""
    with databases.copy("bare") as url:
        with connected(url) as admin:
            load(admin, "stand_ins.sql")
        anyio.run(migrate, url)
        with connected(url) as admin:
            load(admin, "support.sql")
        yield url.rpartition("/")[2]


@pytest.fixture
def supabase(databases: Databases, prepared: str) -> Iterator[Connection]:
    """A superuser in a fresh copy of it."""
    with databases.copy(prepared) as url, connected(url) as admin:
        yield admin


def _heard(admin: Connection) -> list[str]:
    """Return the events since the last call, after checking that they say nothing."""
    rows = admin.execute(
        b"with heard as (delete from realtime.messages returning *) select * from heard"
    ).fetchall()
    assert {
        (row["extension"], row["topic"], row["private"], str(row["payload"])) for row in rows
    } <= {("broadcast", _TOPIC, True, "{}")}
    return [row["event"] for row in rows]


def _as_owner(admin: Connection, call: str) -> None:
    with admin.transaction():
        admin.execute(b"select tests.as_owner(tests.alice()::text)")
        admin.execute(f"select public.{call}".encode())


def test_whatever_an_agent_should_know_wakes_it(supabase: Connection) -> None:
    agent = Caller(supabase)
    supabase.execute(b"select tests.submit()")
    assert _heard(supabase) == ["wakeup"]
    provision = agent.claim()
    assert provision is not None
    assert _heard(supabase) == []
    _as_owner(supabase, f"cancel_provision('{provision['id']}')")
    assert _heard(supabase) == ["wakeup"]
    _as_owner(supabase, f"cancel_provision('{provision['id']}')")
    assert _heard(supabase) == []
    _as_owner(supabase, f"cancel_provision('{provision['id']}', true)")
    assert _heard(supabase) == ["wakeup"]
    agent.report(provision, "CANCELLED")
    assert _heard(supabase) == ["wakeup"]
    _as_owner(supabase, f"set_cluster_options('{CLUSTER}', p_drain => true)")
    assert _heard(supabase) == ["wakeup"]
    _as_owner(supabase, f"set_cluster_options('{CLUSTER}', p_drain => true)")
    assert _heard(supabase) == []


def test_a_requeued_provision_wakes_the_agents(supabase: Connection) -> None:
    supabase.execute(b"select tests.submit()")
    agent = Caller(supabase)
    provision = agent.claim()
    assert provision is not None
    supabase.execute(b"select tests.silence(%s, '106 s')", (provision["id"],))
    _heard(supabase)
    assert agent.claim() is None
    assert _heard(supabase) == ["wakeup", "wakeup"]  # its lease is gone, and it is queued


def test_a_heartbeat_comes_back_as_a_pulse(supabase: Connection) -> None:
    for _ in range(2):
        Caller(supabase).call("agent_heartbeat", p_agent=_BEAT)
        assert _heard(supabase) == ["pulse"]


def test_a_broken_realtime_breaks_nothing(supabase: Connection) -> None:
    """As when a daily partition is missing."""
    supabase.execute(b"alter table realtime.messages add check (topic = '')")
    supabase.execute(b"select tests.submit()")
    agent = Caller(supabase)
    agent.call("agent_heartbeat", p_agent=_BEAT)
    provision = agent.claim()
    assert provision is not None
    agent.report(provision, "SUCCESS")
    assert _heard(supabase) == []


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
    supabase: Connection,
    topic: str,
    extension: str,
    claims: dict[str, str] | None,
    seen: int,
) -> None:
    """Realtime asks so, with the topic set, when somebody joins a private channel."""
    with supabase.transaction(force_rollback=True):
        supabase.execute(
            b"insert into realtime.messages (topic, extension) values (%s, %s)", (topic, extension)
        )
        supabase.execute(
            b"select set_config('realtime.topic', %s, true),"
            b" set_config('request.jwt.claims', %s, true), set_config('role', 'anon', true)",
            (topic, "" if claims is None else json.dumps({"role": "anon", **claims})),
        )
        rows = supabase.execute(b"select from realtime.messages").fetchall()
    assert len(rows) == seen


def test_agents_may_not_send(supabase: Connection) -> None:
    with supabase.transaction(force_rollback=True):
        supabase.execute(
            b"select set_config('realtime.topic', %s, true),"
            b" set_config('request.jwt.claims', %s, true), set_config('role', 'anon', true)",
            (_TOPIC, json.dumps({"role": "anon", "cluster_id": CLUSTER})),
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            supabase.execute(
                b"insert into realtime.messages (topic, extension) values (%s, 'broadcast')",
                (_TOPIC,),
            )


def test_upkeep_is_scheduled_and_its_commands_run(supabase: Connection) -> None:
    jobs = supabase.execute(b"select * from cron.job order by jobname").fetchall()
    assert {job["jobname"]: job["schedule"] for job in jobs} == {
        "tendril mark offline clusters": "* * * * *",
        "tendril prune logs": "17 * * * *",
        "tendril reap leases": "* * * * *",
    }
    for job in jobs:
        supabase.execute(job["command"].encode())
    supabase.execute(b"select tendril_private.schedule_upkeep()")
    assert len(supabase.execute(b"select from cron.job").fetchall()) == len(jobs)


def test_both_may_come_later(databases: Databases, url: str, admin: Connection) -> None:
    """Without them nothing is there; the functions that attach to them may be called again."""
    assert "TRIGGER wake_" not in dump(databases.server, url)
    load(admin, "stand_ins.sql")
    for _ in range(2):
        row = admin.execute(
            b"select tendril_private.attach_realtime() as realtime,"
            b" tendril_private.schedule_upkeep() as upkeep"
        ).fetchone()
        assert row == {"realtime": True, "upkeep": True}
    admin.execute(b"select tests.submit()")
    assert _heard(admin) == ["wakeup"]


def test_nothing_else_differs(databases: Databases, supabase: Connection) -> None:
    """With Realtime there are its triggers more, and no object without a comment but those."""
    found = supabase.execute(resources.read("tests/uncommented.sql").encode()).fetchall()
    names = sorted(str(next(iter(row.values()))) for row in found)
    assert all(name.startswith(("trigger wake_", "trigger echo_")) for name in names), names
    assert len(names) == 5
