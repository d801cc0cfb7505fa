"""The control plane's SQL, on a real server: scenarios, races, plans, privileges, migrations."""

import hashlib
import hmac
import itertools
import random
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import anyio
import jwt
import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from psycopg.rows import DictRow

from tendril_rt import resources
from tendril_rt.errors import MigrationError
from tendril_rt.local import postgres
from tendril_rt.migrate import migrate
from tendril_rt.model import LEGAL_MOVES, Status

from .sql_support import (
    CLUSTER,
    Caller,
    Connection,
    Databases,
    Scenario,
    connected,
    debian_bin_dirs,
    load,
    scenarios,
    submit,
)

pytestmark = pytest.mark.integration

_PRIVILEGES = Path(__file__).with_name("privileges.txt")
_T = TypeVar("_T")
_NAMES = [path.name for path in resources.migrations()]


@pytest.fixture(scope="session", params=[None, *debian_bin_dirs()], ids=str)
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """One server of each kind that is here: the embedded one, and those of the system."""
    folder = tmp_path_factory.mktemp("postgres") / "server"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            postgres.running(folder, bin_dir=request.param)
        ) as server,
    ):
        yield Databases(server)


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """A fresh migrated database."""
    with databases.copy("ready") as url:
        yield url


@pytest.fixture
def admin(url: str) -> Iterator[Connection]:
    """A superuser in the fresh migrated database."""
    with connected(url) as connection:
        yield connection


@pytest.fixture
def bare_url(databases: Databases) -> Iterator[str]:
    """A fresh database as Supabase hands it out."""
    with databases.copy("bare") as url:
        yield url


@pytest.fixture(scope="session")
def stage(databases: Databases) -> Iterator[Connection]:
    """A superuser in the one database of all scenarios, each of which is rolled back."""
    with databases.copy("ready") as url, connected(url) as connection:
        yield connection


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_scenario(scenario: Scenario, stage: Connection) -> None:
    with stage.transaction(force_rollback=True):
        stage.execute(scenario.sql.encode())


# --- races: one session cannot race itself ---------------------------------------------------


def _together(url: str, count: int, work: Callable[[Caller], _T]) -> list[_T]:
    """Run *work* in *count* threads, each with an agent and a connection of its own."""

    def one(_: int) -> _T:
        with connected(url) as connection:
            return work(Caller(connection))

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


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


def test_a_claim_sent_twice_at_once_takes_one_provision(url: str, admin: Connection) -> None:
    submit(admin, 20)
    for _ in range(10):
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


# --- the client that knows only the original arguments ---------------------------------------


def _original_run(client: Caller, beats: int) -> str:
    """Run one provision the way the original agent does; return its id."""
    client.call("agent_heartbeat")
    (provision,) = client.call("fetch_next_provision")
    report = {"p_provision_id": provision["id"], "p_error_message": None}
    client.call("update_provision_status", p_status="PROCESSING", **report)
    for beat in range(beats):
        client.call(
            "insert_provision_log",
            p_provision_id=provision["id"],
            p_log_chunk=f"{beat}\n",
            p_stream_type="STDOUT",
        )
        time.sleep(0.05)
        client.call("agent_heartbeat")
    client.call("update_provision_status", p_status="SUCCESS", **report)
    client.call("update_provision_status", p_status="SUCCESS", **report)
    return str(provision["id"])


def test_the_original_client_works(admin: Connection) -> None:
    submit(admin, 1)
    provision_id = _original_run(Caller(admin), beats=3)
    rows = admin.execute(
        b"select p.status, l.attempt, l.seq, l.byte_offset, l.log_chunk from public.provisions p"
        b" join public.provision_logs l on l.provision_id = p.id where p.id = %s order by l.seq",
        (provision_id,),
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("SUCCESS", 1, 0, 0, "0\n"),
        ("SUCCESS", 1, 1, 2, "1\n"),
        ("SUCCESS", 1, 2, 4, "2\n"),
    ]


def test_the_original_client_may_outlive_its_lease(url: str, admin: Connection) -> None:
    admin.execute(
        b"update tendril_private.settings set lease_ttl = '0.3 s', reap_grace = '0',"
        b" lost_after = '0', sweep_every = '0'"
    )
    submit(admin, 1)
    with connected(url) as connection, ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        run = pool.submit(_original_run, Caller(connection), 12)
        while not admin.execute(b"select from public.provision_leases").fetchall():
            time.sleep(0.01)
        while not run.done():
            assert Caller(admin).claim() is None  # reaps whatever is dead
            time.sleep(0.02)
        run.result()
        assert time.monotonic() - started > 0.6
    rows = admin.execute(b"select status, attempt from public.provisions").fetchall()
    assert [tuple(row.values()) for row in rows] == [("SUCCESS", 1)]


# --- plans, privileges, signatures -----------------------------------------------------------


def test_a_claim_reads_indexes_only(admin: Connection) -> None:
    """Neither a long queue, nor a long past, nor others' leases make a claim read a whole table.

    The session, as one of a pool, has its plans from when there was nothing to read.
    """
    submit(admin, 10)
    agent = Caller(admin)
    for _ in range(10):
        provision = agent.claim(str(uuid.uuid4()))
        assert provision is not None
        agent.report(provision, "SUCCESS")
    load(admin, "crowd.sql")
    plans: list[str] = []
    admin.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    admin.execute(
        b"load 'auto_explain'; set auto_explain.log_min_duration = 0;"
        b"set auto_explain.log_nested_statements = on; set auto_explain.log_analyze = on;"
        b"set auto_explain.log_level = 'notice'; set client_min_messages = 'notice'"
    )
    for prepare in (b"select 1", b"analyze", b"set plan_cache_mode = force_generic_plan"):
        admin.execute(prepare)
        plans.clear()
        assert agent.claim(str(uuid.uuid4())) is not None
        claim = "\n".join(plans)
        assert "Index Scan using provisions_queue on provisions p" in claim
        assert "Index Cond: (stack_key = p.stack_key)" in claim
        for table in ("provisions", "provision_leases"):
            assert f"Seq Scan on {table}" not in claim, claim
        assert max(map(int, re.findall(r"actual time=\S+ rows=(\d+)", claim))) < 10, claim
        assert "cost=1000" not in claim, claim  # a forbidden plan, for want of an index


def test_privileges_are_those_in_the_file(admin: Connection) -> None:
    """Supabase's default privileges are in force here: what is not revoked shows up."""
    rows = admin.execute(resources.read("tests/privileges.sql").encode()).fetchall()
    actual = sorted(row["privilege"] for row in rows)
    assert actual == _PRIVILEGES.read_text().splitlines()


def test_everything_is_commented(admin: Connection) -> None:
    assert admin.execute(resources.read("tests/uncommented.sql").encode()).fetchall() == []


@pytest.mark.parametrize("length", [0, 1, 40, 63, 64, 65, 88, 200])
def test_hmac_is_that_of_the_standard_library(length: int, admin: Connection) -> None:
    key = random.Random(length).randbytes(length)
    for message in (b"", b"what do ya want for nothing?", bytes(range(256)) * 3):
        row = admin.execute(
            b"select tendril_private.hmac_sha256(%s, %s) as mac", (message, key)
        ).fetchone()
        assert row is not None
        assert row["mac"] == hmac.digest(key, message, hashlib.sha256)


@pytest.mark.parametrize("length", [32, 40, 64, 65, 88])
def test_realtime_token_verifies(length: int, admin: Connection) -> None:
    secret = "é" + "s" * (length - 2)
    admin.execute(b"select tendril_private.set_jwt_secret(%s)", (secret,))
    (row,) = Caller(admin).call("agent_realtime_token")
    claims = jwt.decode(row["agent_realtime_token"]["token"], secret, algorithms=["HS256"])
    assert (claims["role"], claims["cluster_id"]) == ("anon", CLUSTER)
    assert claims["exp"] - claims["iat"] == 3600


def test_the_database_allows_the_moves_of_the_model(admin: Connection) -> None:
    submit(admin, 1)
    for old, new in itertools.product(Status, Status):
        admin.execute(b"set session_replication_role = replica")  # no trigger for the first move
        _move(admin, old)
        admin.execute(b"set session_replication_role = origin")
        if new is old or new in LEGAL_MOVES[old]:
            _move(admin, new)
        else:
            with pytest.raises(psycopg.Error, match="illegal move") as refusal:
                _move(admin, new)
            assert refusal.value.sqlstate == "PT409"


def _move(admin: Connection, status: Status) -> None:
    admin.execute(
        b"update public.provisions set status = %(status)s, attempt = 1, started_at = now(),"
        b" completed_at = case when %(ended)s then now() end",
        {"status": status, "ended": status.is_terminal},
    )


def test_realtime_publishes_three_tables(admin: Connection) -> None:
    rows = admin.execute(
        b"select tablename from pg_publication_tables where pubname = 'supabase_realtime'"
        b" order by 1"
    ).fetchall()
    assert [row["tablename"] for row in rows] == ["clusters", "provision_logs", "provisions"]


# --- migrations ------------------------------------------------------------------------------


async def test_migrating_twice_applies_once(bare_url: str) -> None:
    told: list[str] = []
    assert await migrate(bare_url, on_applied=told.append) == _NAMES == told
    assert await migrate(bare_url) == []


async def test_two_at_once_take_turns(bare_url: str) -> None:
    applied: list[str] = []

    async def one() -> None:
        applied.extend(await migrate(bare_url))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert sorted(applied) == _NAMES


def test_plain_statements_apply_too(databases: Databases, bare_url: str) -> None:
    """As ``psql -f`` does it; and without a publication, as on a server that is not Supabase's."""
    with connected(bare_url) as admin:
        admin.execute(b"drop publication supabase_realtime")
        for path in resources.migrations():
            admin.execute(path.read_bytes())
        test_realtime_publishes_three_tables(admin)


def test_the_roles_may_be_made_again(admin: Connection) -> None:
    admin.execute(resources.read("embedded/supabase.sql").encode())
    test_privileges_are_those_in_the_file(admin)


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        (b"update tendril_private.schema_migrations set sha256 = 'x' where version = 3", "changed"),
        (
            b"insert into tendril_private.schema_migrations values (9999, '9999_later.sql', 'x')",
            "9999_later.sql, which this release does not know",
        ),
    ],
)
async def test_refuses_another_history(url: str, tampering: bytes, message: str) -> None:
    with connected(url) as admin:
        admin.execute(tampering)
    with pytest.raises(MigrationError, match=message):
        await migrate(url)


async def test_a_failing_migration_leaves_nothing(
    bare_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "0001_make_one.sql", tmp_path / "0002_make_two.sql"
    good.write_text("create table public.one ()")
    bad.write_text("create table public.two (); select 1/0")
    monkeypatch.setattr(resources, "migrations", lambda: [good, bad])
    with pytest.raises(MigrationError, match=r"0002_make_two\.sql .*division by zero"):
        await migrate(bare_url)
    with connected(bare_url) as admin:
        row = admin.execute(
            b"select to_regclass('public.one') is not null as one,"
            b" to_regclass('public.two') is null as no_two"
        ).fetchone()
    assert row == {"one": True, "no_two": True}
    bad.write_text("create table public.two ()")
    assert await migrate(bare_url) == [bad.name]


async def test_an_unreachable_database_is_said_so() -> None:
    with pytest.raises(MigrationError, match="cannot be reached"):
        await migrate("postgresql://postgres:secret@127.0.0.1:1/postgres")
