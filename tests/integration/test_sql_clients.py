"""Older clients on the newest schema: the original one, and every release since."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from .sql_calls import COMMAND, FILE, Replay, record
from .sql_support import Caller, Connection, connected, submit

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_RECORDINGS = sorted(Path(__file__).parent.glob("calls_*.json"))


@pytest.mark.parametrize("recording", _RECORDINGS, ids=lambda path: path.stem)
def test_each_release_gets_the_answers_it_knows(recording: Path, admin: Connection) -> None:
    calls = json.loads(recording.read_text(encoding="utf-8"))
    assert Replay(admin).run(calls) == []


def test_the_recording_is_of_this_release(admin: Connection) -> None:
    calls = json.loads(FILE.read_text(encoding="utf-8"))
    assert anyio.run(record, admin) == calls, f"unless it is released: {COMMAND}"


def test_a_missing_key_would_be_noticed(admin: Connection) -> None:
    """As would a renamed argument, or a row too many."""
    calls = json.loads(FILE.read_text(encoding="utf-8"))
    calls[0]["answer"]["more"] = 1
    calls[-1]["answer"].append({"status": "ONLINE"})
    assert Replay(admin).run(calls) == [
        "register_cluster.more: '(missing)', not 1",
        "clusters: 1 rows, not 2",
    ]
    calls[0]["request"]["arguments"]["p_renamed"] = 1
    with pytest.raises(AssertionError, match="register_cluster lacks an argument"):
        Replay(admin).run(calls)


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
