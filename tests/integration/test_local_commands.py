"""``tendril dev``, ``tendril demo`` and ``grape`` as their users run them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import anyio
import httpx
import orjson
import psycopg
import pytest

from tendril_rt.control.owner import Registration, owner
from tests.conformance.realtime_scenarios import connected
from tests.conftest import TENDRIL, RunningPlane
from tests.integration.agents import recording_terraform
from tests.integration.agents import snapshot as configuration

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

GRAPE = (sys.executable, "-m", "tendril_rt.cli.grape")


def _run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **env}
    )


@contextmanager
def _dev(folder: Path, *options: str) -> Iterator[RunningPlane]:
    process = subprocess.Popen(
        [*TENDRIL, "dev", "--json", "--data", str(folder), *options], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield RunningPlane(**orjson.loads(process.stdout.readline()))
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def _start_demo(data: Path, screen: Path) -> subprocess.Popen[bytes]:
    with screen.open("wb") as out:
        return subprocess.Popen([*TENDRIL, "demo", "--data", str(data)], stdout=out)


def test_the_demo_runs_one_provision_and_its_rows_agree(tmp_path: Path) -> None:
    program, printed = recording_terraform(tmp_path)
    data = tmp_path / "data"

    shown = _run(*TENDRIL, "demo", "--once", "--data", str(data), TENDRIL_TERRAFORM=program)

    assert shown.returncode == 0, shown.stdout + shown.stderr
    for text in ("● queued", "● processing", "● success", "hello, tendril: line 5 of 5"):
        assert text in shown.stdout
    assert "psql 'postgresql://" in shown.stdout
    with _dev(data) as plane, psycopg.connect(plane.database_url) as connection:
        assert connection.execute("select status from provisions").fetchall() == [("SUCCESS",)]
        rows = connection.execute(
            "select seq, stream_type, log_chunk from provision_logs order by seq"
        ).fetchall()
    assert [seq for seq, _, _ in rows] == list(range(len(rows)))
    assert "".join(text for _, kind, text in rows if kind == "STDOUT") == printed.read_text()


def test_the_demo_says_when_terraform_is_missing(tmp_path: Path) -> None:
    shown = _run(*TENDRIL, "demo", "--once", TENDRIL_TERRAFORM="no-such-terraform")
    assert shown.returncode == 1
    assert "neither terraform nor tofu is on PATH" in shown.stderr


async def test_the_demo_accepts_more_provisions_until_it_is_interrupted(tmp_path: Path) -> None:
    data, screen = tmp_path / "data", tmp_path / "screen"
    process = _start_demo(data, screen)

    async def until(text: str, count: int = 1) -> None:
        with anyio.fail_after(40):
            while screen.read_text().count(text) < count:
                assert process.poll() is None
                await anyio.sleep(0.05)

    await until("It stays up until Ctrl-C")
    queued = await anyio.to_thread.run_sync(
        lambda: _run(
            *GRAPE,
            *("deploy", "hello", "--follow", "--env", str(data / "grape.env")),
        )
    )
    assert queued.returncode == 0, queued.stderr
    assert "No changes." in queued.stdout
    await until("● success", 2)
    process.send_signal(signal.SIGINT)
    with anyio.fail_after(20):
        assert await anyio.to_thread.run_sync(process.wait) == 0
    assert list((data / "workspaces").iterdir()) == []


def test_dev_keeps_its_data_and_its_keys_and_says_how_to_reach_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with _dev(data) as first, psycopg.connect(first.database_url) as connection:
        connection.execute(
            "insert into clusters (user_id, name) values (gen_random_uuid(), 'kept')"
        )
    with _dev(data) as second, psycopg.connect(second.database_url) as connection:
        assert connection.execute("select name from clusters").fetchall() == [("kept",)]
        answer = httpx.post(
            f"{second.url}/rest/v1/rpc/register_cluster",
            headers={"apikey": first.anon_key, "authorization": f"Bearer {first.user_token}"},
            json={"p_name": "by an old token"},
        )
        assert answer.status_code == 200, answer.text


def test_dev_refuses_a_folder_that_is_in_use(tmp_path: Path) -> None:
    with _dev(tmp_path):
        second = _run(*TENDRIL, "dev", "--json", "--data", str(tmp_path))
    assert second.returncode == 1
    assert "is in use by another embedded control plane" in second.stderr
    assert "Traceback" not in second.stderr


def test_dev_ends_its_database_also_when_it_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TENDRIL, "dev", "--json", "--data", str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        url = orjson.loads(process.stdout.readline())["database_url"]
    process.kill()
    process.wait()
    with _dev(tmp_path) as again, psycopg.connect(again.database_url) as connection:
        assert connection.execute("select count(*) from clusters").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_dev_ends_when_its_database_does(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*TENDRIL, "dev", "--json", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    postmaster = int((tmp_path / "data" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)

    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert b"Postgres ended by itself" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("url", ["postgresql//u:secret@h/db", "postgresql://u:sec%ret@h/db"])
def test_grape_migrate_never_shows_a_password(url: str) -> None:
    shown = _run(*GRAPE, "migrate", GRAPE_DATABASE_URL=url)
    assert shown.returncode == 1
    assert "URL cannot be read" in shown.stderr
    assert "sec" not in shown.stderr


def test_dev_refuses_what_is_no_port() -> None:
    shown = _run(*TENDRIL, "dev", "--port", "99999")
    assert shown.returncode == 2
    assert "'99999' is not a port" in shown.stderr


@pytest.mark.parametrize("interval", ["-1", "61", "nan", "soon"])
def test_dev_refuses_what_is_no_interval(interval: str) -> None:
    shown = _run(*TENDRIL, "dev", f"--changes-interval-s={interval}")
    assert shown.returncode == 2
    assert f"'{interval}' is no time in seconds" in shown.stderr


async def test_dev_can_pace_changes_as_supabase_does(tmp_path: Path) -> None:
    interval_s = 1.0
    with _dev(tmp_path, "--changes-interval-s", str(interval_s)) as plane:
        async with (
            owner(plane.url, plane.anon_key, plane.user_token) as user,
            connected(plane.url, apikey=plane.anon_key) as player,
        ):
            registered = await user.register_cluster("paced")
            await player.subscribe("paced", plane.user_token, table="provisions")
            await user.create_provision(
                registered.cluster_id, configuration("https://example.test/t.git")
            )
            change = await player.change()
            arrived_at = time.time()
    committed_at = datetime.fromisoformat(str(change["commit_timestamp"])).timestamp()
    assert arrived_at // interval_s > committed_at // interval_s


def test_dev_attaches_broadcasts_to_a_database_that_had_none(tmp_path: Path) -> None:
    """As an older release left it."""
    with _dev(tmp_path) as first, psycopg.connect(first.database_url) as connection:
        connection.execute("drop schema realtime cascade")
        connection.execute("drop trigger echo_heartbeat on public.agents")
    with _dev(tmp_path) as second, psycopg.connect(second.database_url) as connection:
        policies = connection.execute("select policyname from pg_policies").fetchall()
        assert ("tendril_agent_listens",) in policies
        triggers = connection.execute("select tgname from pg_trigger").fetchall()
        assert ("echo_heartbeat",) in triggers


def test_dev_refuses_an_empty_folder_name(tmp_path: Path) -> None:
    shown = _run(*TENDRIL, "dev", "--data", "")
    assert shown.returncode == 1
    assert "--data names no folder" in shown.stderr


async def test_a_stranger_sees_nothing(plane: RunningPlane, cluster: Registration) -> None:
    async with owner(plane.url, plane.anon_key, plane.anon_key) as nobody:
        with pytest.raises(Exception, match="permission denied"):
            await nobody.cluster_status(cluster.cluster_id)


def test_grape_says_what_to_do_about_an_expired_token(plane: RunningPlane, tmp_path: Path) -> None:
    file = tmp_path / "hello.json"
    file.write_text(json.dumps(configuration("https://example.org/x")))
    with psycopg.connect(plane.database_url) as connection:
        row = connection.execute(
            "select tendril_private.sign_jwt(%s, secret) from tendril_private.jwt_secrets",
            (json.dumps({"role": "authenticated", "sub": "x", "exp": 1}),),
        ).fetchone()
    assert row is not None
    env = {"GRAPE_URL": plane.url, "GRAPE_KEY": plane.anon_key, "GRAPE_CLUSTER": "x"}

    shown = _run(*GRAPE, "deploy", str(file), GRAPE_TOKEN=row[0], **env)

    assert shown.returncode == 4
    assert "sign in again for a new GRAPE_TOKEN" in shown.stderr
    assert "Traceback" not in shown.stderr
