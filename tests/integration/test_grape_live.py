"""A log as it comes: by Realtime, over a connection that is cut, from the simplest of agents."""

import hashlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import httpx
import orjson
import psycopg
import pytest
import pytest_asyncio

from tendril_rt.cli.account import Account
from tendril_rt.control.news import News
from tendril_rt.control.owner import Registration
from tendril_rt.model import ProvisionId
from tests.conftest import RunningPlane

from .agents import eventually, snapshot
from .grape_support import Grape, new_grape
from .phoenix_server import Wire

pytestmark = pytest.mark.integration


@pytest.fixture
def grape(plane: RunningPlane, tmp_path: Path) -> Grape:
    return new_grape(plane, tmp_path / "config").sign_in()


@pytest.fixture
def cluster(grape: Grape) -> Registration:
    return grape.add_cluster()


@pytest.fixture
def provision_id(grape: Grape, cluster: Registration, tmp_path: Path) -> str:
    """A queued provision, which no agent takes."""
    file = tmp_path / "hello.json"
    file.write_text(json.dumps(snapshot("https://example.org/x")))
    queued = grape("deploy", str(file), "--json").json
    assert isinstance(queued, dict)
    return str(queued["provision_id"])


@dataclass(frozen=True)
class _Client:
    """An agent that knows the four calls of the first hour alone, and no agent id."""

    http: httpx.AsyncClient
    cluster: Registration
    provision_id: str

    async def call(self, function: str, **arguments: object) -> None:
        proof = {
            "p_cluster_id": self.cluster.cluster_id,
            "p_token_hash": hashlib.sha256(self.cluster.token.encode()).hexdigest(),
        }
        answer = await self.http.post(f"/rest/v1/rpc/{function}", json={**proof, **arguments})
        assert answer.is_success, answer.text

    async def log(self, text: str) -> None:
        await self.call(
            "insert_provision_log",
            p_provision_id=self.provision_id,
            p_log_chunk=text,
            p_stream_type="STDOUT",
        )


@pytest_asyncio.fixture
async def client(grape: Grape, cluster: Registration, provision_id: str) -> AsyncIterator[_Client]:
    """A client that has claimed the provision."""
    headers = {"apikey": grape.plane.anon_key}
    async with httpx.AsyncClient(base_url=grape.plane.url, headers=headers) as http:
        client = _Client(http, cluster, provision_id)
        await client.call("fetch_next_provision")
        yield client


async def test_realtime_tells_that_a_provision_went_on(grape: Grape, provision_id: str) -> None:
    account = Account(grape.environment)
    news = News(account.project(), account.token, ProvisionId(provision_id))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.listen)

        async def is_ready() -> bool | None:
            return news.is_ready or None

        await eventually(is_ready, "Realtime did not become ready")
        while await news.changed.wait(0):
            pass
        async with await psycopg.AsyncConnection.connect(grape.plane.database_url) as connection:
            await connection.execute(
                "insert into provision_logs (provision_id, attempt, seq, byte_offset, stream_type,"
                " log_chunk) values (%s, 1, 0, 0, 'STDOUT', 'x')",
                (provision_id,),
            )
        assert await news.changed.wait(20)
        tasks.cancel_scope.cancel()


async def test_a_cut_connection_loses_and_doubles_no_line(grape: Grape, client: _Client) -> None:
    kept = orjson.loads(grape.session_file.read_bytes())
    async with Wire.to(grape.plane.url) as wire:
        process = grape.start(
            *("logs", "-f", client.provision_id),
            GRAPE_URL=wire.url,
            GRAPE_KEY=grape.plane.anon_key,
            GRAPE_TOKEN=kept["access_token"],
        )
        assert process.stdout is not None
        seen, wanted = b"", b""
        for number in range(4):
            line = f"line {number} ✓\n"
            wanted += line.encode()
            await client.log(line)
            with anyio.fail_after(30):
                while len(seen) < len(wanted):
                    seen += await anyio.to_thread.run_sync(os.read, process.stdout.fileno(), 4096)
            await wire.cut()
        await client.call(
            "update_provision_status", p_provision_id=client.provision_id, p_status="SUCCESS"
        )
        out, err = await anyio.to_thread.run_sync(process.communicate)
    assert (seen + out, process.returncode) == (wanted, 0), err
