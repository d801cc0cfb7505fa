"""The control plane's SQL, on a real server: scenarios, plans, signatures, legal moves."""

import hashlib
import hmac
import itertools
import random
import re
import uuid

import jwt
import psycopg
import pytest

from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import SnapshotError
from tendril_rt.model import LEGAL_MOVES, Status

from .sql_support import (
    CLUSTER,
    Caller,
    Connection,
    Scenario,
    load,
    published,
    scenarios,
    submit,
)

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]


@pytest.mark.parametrize("scenario", scenarios(), ids=str)
def test_scenario(scenario: Scenario, stage: Connection) -> None:
    with stage.transaction(force_rollback=True):
        stage.execute(scenario.sql.encode())


@pytest.mark.parametrize("limit", [10, 1000])
def test_a_claim_reads_indexes_only(limit: int, admin: Connection) -> None:
    """Neither a long queue, nor a long past, nor others' leases make a claim read a whole table.

    The session, as one of a pool, has its plans from when there was nothing to read.
    """
    admin.execute(b"update public.clusters set max_concurrency = %s", (limit,))
    submit(admin, 10)
    agent = Caller(admin)
    for _ in range(10):
        provision = agent.claim(str(uuid.uuid4()))
        assert provision is not None
        agent.report(provision, "SUCCESS")
    load(admin, "crowd.sql")
    plans = _plans(admin)
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


def _plans(admin: Connection) -> list[str]:
    """Return a list that grows by the plan of each statement from now on."""
    plans: list[str] = []
    admin.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    admin.execute(
        b"load 'auto_explain'; set auto_explain.log_min_duration = 0;"
        b"set auto_explain.log_nested_statements = on; set auto_explain.log_analyze = on;"
        b"set auto_explain.log_level = 'notice'; set client_min_messages = 'notice'"
    )
    return plans


def test_pruning_reads_what_it_prunes(admin: Connection) -> None:
    """A long history of which nothing is to go costs nothing; a small part of it, that part."""
    load(admin, "crowd.sql")
    admin.execute(
        b"update public.provisions set completed_at = now() - interval '31 days'"
        b" where completed_at is not null and seq <= 20"
    )
    admin.execute(b"analyze")
    plans = _plans(admin)
    for pruned in (10, 0):
        plans.clear()
        answer = admin.execute(b"select public.prune_logs('30 days') as answer").fetchone()
        assert answer == {"answer": {"provisions": pruned, "chunks": 0}}
        work = "\n".join(plans)
        assert "Index Scan using provisions_unpruned on provisions p" in work
        assert "Seq Scan on provision" not in work
        rows = re.findall(r"provisions_unpruned on .* rows=(\d+)", work)
        assert [int(row.split(".")[0]) for row in rows] == [pruned]


def test_heartbeats_rewrite_rows_in_place(admin: Connection) -> None:
    """Heap-only updates: no index is touched, whatever the number of beats."""
    submit(admin, 1)
    agent = Caller(admin)
    provision = agent.claim()
    assert provision is not None
    lease = f'{{"provision_id": "{provision["id"]}", "attempt": 1, "phase": "PLAN"}}'
    for beat in range(40):
        described = f'"id": "{agent.agent_id}", "capacity": {beat}, "hostname": "pod-{beat}"'
        agent.call("agent_heartbeat", p_agent=f'{{{described}, "leases": [{lease}]}}')
    admin.execute(b"select pg_stat_force_next_flush()")
    rows = admin.execute(
        b"select relname, n_tup_upd - n_tup_hot_upd as elsewhere, n_tup_upd from"
        b" pg_stat_user_tables where relname in ('agents', 'provision_leases') order by relname"
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("agents", 0, 39),
        ("provision_leases", 0, 40),
    ]


_SOURCE = '"template_source": {"repo": "r", "version": "v"}'


@pytest.mark.parametrize(
    "snapshot",
    [
        *("{}", "[]", '"x"', "1", "null"),
        '{"template_source": null}',
        '{"template_source": {"repo": "r"}}',
        '{"template_source": {"repo": "r", "version": null}}',
        '{"template_source": {"repo": "r", "version": "v", "path": null}}',
        '{"template_source": {"repo": "r", "version": "v", "path": ["p"]}}',
        '{"template_source": {"repo": "r", "version": "", "path": ""}}',
        f"{{{_SOURCE}}}",
        *(
            f"{{{_SOURCE}, {field}}}"
            for field in (
                '"terraform_vars": null',
                '"terraform_vars": {"a": null, "_b-1": [{}]}',
                '"terraform_vars": {"1a": 1}',
                '"terraform_vars": {"": 1}',
                '"terraform_vars": {"\u00e9": 1}',
                '"terraform_vars": {"a\\n": 1}',
                '"terraform_vars": "a"',
                '"sensitive": []',
                '"sensitive": ["a", "a"]',
                '"sensitive": [null]',
                '"sensitive": null',
                '"sensitive": {"a": 1}',
                '"backend_config": null',
                '"backend_config": {}',
                '"backend_config": {"a": "x", "b": false, "c": -3}',
                '"backend_config": {"a": 1.5}',
                '"backend_config": {"a": []}',
                '"backend_config": {"a": null}',
                '"backend_config": [["a", "x"]]',
                '"backend_config": {"a b": "x"}',
                '"sensitive": ["a"], "terraform_vars": {"a": null}',
                '"sensitive": ["a", "b"], "terraform_vars": {"a": 1}',
                '"sensitive": ["a"], "terraform_vars": null',
                '"timeouts": null, "cost_estimate": null',
                '"timeouts": {"plan_s": 0.5, "init_s": null, "unknown": "x"}',
                '"timeouts": {"apply_s": 0}',
                '"timeouts": {"apply_s": "60"}',
                '"timeouts": {"provision_s": 1000000000}',
                '"timeouts": []',
                '"cost_estimate": true',
                '"cost_estimate": "yes"',
                '"unknown": [1, {"a": null}], "meta": 1',
            )
        ),
    ],
)
def test_the_database_refuses_the_snapshots_that_agents_refuse(
    snapshot: str, stage: Connection
) -> None:
    row = stage.execute(
        b"select tendril_private.snapshot_fault(%s::jsonb) as fault", (snapshot,)
    ).fetchone()
    assert row is not None
    if row["fault"] is None:
        parse_snapshot(snapshot)
    else:
        with pytest.raises(SnapshotError):
            parse_snapshot(snapshot)


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
    assert published(admin) == ["clusters", "provision_logs", "provisions"]
