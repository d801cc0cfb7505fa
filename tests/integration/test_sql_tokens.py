"""Wrong cluster, wrong token, malformed, expired, revoked: one answer, one amount of work."""

import re
import statistics
import time
from collections.abc import Mapping

import psycopg
import pytest

from .sql_support import CLUSTER, TOKEN_HASH, Connection

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_EXPIRED, _REVOKED = "e1" * 32, "e2" * 32
_NOBODY = "00000000-0000-4000-8000-0000000000ff"
_ROUNDS = 150
#: Cluster id and hash; None is not sent at all.
_WRONG: Mapping[str, tuple[str | None, str | None]] = {
    "token": (CLUSTER, "0f" * 32),
    "cluster": ("c0000000-0000-4000-8000-000000000002", TOKEN_HASH),
    "no such cluster": (_NOBODY, TOKEN_HASH),
    "both": (_NOBODY, "0f" * 32),
    "malformed token": (CLUSTER, "not a hash"),
    "no token": (CLUSTER, None),
    "no cluster": (None, TOKEN_HASH),
    "expired": (CLUSTER, _EXPIRED),
    "revoked": (CLUSTER, _REVOKED),
}


def _make_tokens(admin: Connection) -> None:
    """Make hundreds of others'; one sorts behind whatever anybody may send."""
    admin.execute(
        b"insert into public.clusters (id, user_id, name)"
        b" select gen_random_uuid(), tests.bob(), 'x' from generate_series(1, 300)"
    )
    admin.execute(
        b"insert into public.cluster_tokens (cluster_id, verifier) select c.id,"
        b" case row_number() over () when 1 then decode(repeat('ff', 32), 'hex')"
        b" else sha256(uuid_send(c.id)) end from public.clusters c where c.name = 'x'"
    )
    for token_hash, column in ((_EXPIRED, "expires_at"), (_REVOKED, "revoked_at")):
        admin.execute(
            f"insert into public.cluster_tokens (cluster_id, verifier, {column})"
            " values (%s, tendril_private.verifier_of(%s), now())".encode(),
            (CLUSTER, token_hash),
        )


def _refused(admin: Connection, who: tuple[str | None, str | None]) -> tuple[str | None, ...]:
    with pytest.raises(psycopg.Error) as refusal:
        admin.execute(b"select public.agent_heartbeat(%s::uuid, %s)", who)
    said = refusal.value.diag
    return said.sqlstate, said.message_primary, said.message_detail, said.message_hint


def test_what_is_wrong_cannot_be_told_from_the_answer(admin: Connection) -> None:
    _make_tokens(admin)
    answers = {_refused(admin, who) for who in _WRONG.values()}
    assert len(answers) == 1
    assert answers.pop()[0] == "PT401"


def test_what_is_wrong_cannot_be_told_from_the_work(admin: Connection) -> None:
    """The executed plan is the same to the row, and there is one hash: the index's condition."""
    _make_tokens(admin)
    admin.execute(b"analyze public.cluster_tokens")
    plans: list[str] = []
    admin.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    for prepare in (
        b"load 'auto_explain'",
        b"set auto_explain.log_min_duration = 0",
        b"set auto_explain.log_nested_statements = on",
        b"set auto_explain.log_analyze = on",
        b"set auto_explain.log_timing = off",
        b"set auto_explain.log_level = 'notice'",
        b"set client_min_messages = 'notice'",
        b"set plan_cache_mode = force_generic_plan",
    ):
        admin.execute(prepare)
    work = {}
    for name, who in _WRONG.items():
        plans.clear()
        _refused(admin, who)
        work[name] = "\n".join(
            re.sub(r"^duration: \S+ ms|Query Parameters: .*", "", p) for p in plans
        )
    assert set(work.values()) == {work["token"]}, work
    assert len(re.findall(r"actual rows=1(?:\.00)? loops=1", work["token"])) == 2, work["token"]
    assert work["token"].count("Index Scan using cluster_tokens_verifier") == 1
    assert "sha256" not in work["token"]  # made once, before; not for each row that is read


def test_what_is_wrong_cannot_be_told_from_the_time(admin: Connection) -> None:
    """A sanity check with generous bounds; the proof is the work."""
    _make_tokens(admin)
    times: dict[str, list[float]] = {name: [] for name in _WRONG}
    for _ in range(_ROUNDS):
        for name, who in _WRONG.items():
            started = time.perf_counter()
            with pytest.raises(psycopg.Error):
                admin.execute(b"select public.agent_heartbeat(%s::uuid, %s)", who)
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    print({name: f"{median * 1e6:.0f} us" for name, median in medians.items()})
    assert max(medians.values()) < 2 * min(medians.values())
