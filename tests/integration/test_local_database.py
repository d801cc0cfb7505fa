"""``tendril dev`` on a Postgres that is there already, and on an address beyond loopback."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import orjson
import psycopg
import pytest

from tendril_rt.control.owner import owner
from tendril_rt.local import postgres
from tests.conftest import TENDRIL

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def _refused(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TENDRIL, "dev", "--json", "--data", str(folder), *options],
        env={**os.environ, "TENDRIL_LOCAL_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def _dev(url: str, folder: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """Run it on every address; yield what it printed, and the file of its complaints."""
    said = folder.with_suffix(".log")
    with said.open("wb") as log:
        process = subprocess.Popen(
            [*TENDRIL, "dev", "--json", "--data", str(folder), "--host", "0.0.0.0"],
            env={**os.environ, "TENDRIL_LOCAL_DATABASE_URL": url},
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield orjson.loads(process.stdout.readline()), said
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0, said.read_text()


async def test_dev_serves_a_database_that_is_there_and_leaves_it_running(tmp_path: Path) -> None:
    folder = tmp_path / "plane"
    async with postgres.running(tmp_path / "server") as server:
        with _dev(server.url(), folder) as (keys, said):
            url = keys["url"].replace("0.0.0.0", "127.0.0.1")
            async with owner(url, keys["anon_key"], keys["user_token"]) as user:
                await user.register_cluster("elsewhere")
            assert "listening on 0.0.0.0: whoever reaches it" in said.read_text()

        assert [path.name for path in folder.iterdir()] == ["jwt-secret"]
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("select name from clusters").fetchall() == [("elsewhere",)]


async def test_a_server_whose_log_is_not_decoded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres._OPTIONS, "wal_level", "replica")
    async with postgres.running(tmp_path / "server") as server:
        refused = await anyio.to_thread.run_sync(_refused, server.url(), tmp_path / "plane")

    assert refused.returncode == 1
    assert "wal_level = replica" in refused.stderr
    assert "-c wal_level=logical" in refused.stderr


def test_a_server_that_is_not_there_is_named_by_its_setting(tmp_path: Path) -> None:
    refused = _refused("postgresql://postgres@127.0.0.1:1/postgres", tmp_path)

    assert refused.returncode == 1
    assert "TENDRIL_LOCAL_DATABASE_URL cannot be reached" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_malformed_url_is_refused_without_its_password(tmp_path: Path) -> None:
    refused = _refused("postgresql://u:sec%ret@h/db", tmp_path)

    assert refused.returncode == 1
    assert "TENDRIL_LOCAL_DATABASE_URL cannot be read" in refused.stderr
    assert "sec" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_no_address_is_refused(tmp_path: Path) -> None:
    refused = _refused("", tmp_path, "--host", "everywhere")

    assert refused.returncode == 2
    assert "'everywhere' is no IP address" in refused.stderr
