"""What a person is told who asks whether push works."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import pytest_asyncio

from tendril_rt.control.diagnosis import Finding, diagnose
from tendril_rt.control.push import Path
from tendril_rt.errors import Unauthorized
from tendril_rt.model import RealtimeToken

from .phoenix_server import PhoenixServer
from .push_agents import FAST, control_settings

pytestmark = pytest.mark.integration


@pytest_asyncio.fixture
async def server() -> AsyncIterator[PhoenixServer]:
    async with PhoenixServer.running() as running:
        yield running


async def _a_token() -> RealtimeToken | None:
    return RealtimeToken("token", 3600)


async def _none() -> RealtimeToken | None:
    return None


async def _refused() -> RealtimeToken | None:
    raise Unauthorized("check TENDRIL_API_TOKEN")


async def _diagnose(
    server: PhoenixServer,
    fetch_token: Callable[[], Awaitable[RealtimeToken | None]] = _a_token,
    *,
    within_s: float = 5.0,
) -> Mapping[Path, Finding]:
    settings = control_settings(server.url)
    return await diagnose(settings, fetch_token=fetch_token, within_s=within_s, timing=FAST)


async def test_where_both_paths_work_both_are_said_to(server: PhoenixServer) -> None:
    findings = await _diagnose(server)
    assert all(finding.works for finding in findings.values())
    assert findings.keys() == set(Path)


async def test_a_refused_broadcast_is_told_with_its_cure(server: PhoenixServer) -> None:
    server.behaviour.private_error = "Unauthorized: You do not have permissions"
    findings = await _diagnose(server)
    assert not findings[Path.BROADCAST].works
    assert "attach_realtime()" in findings[Path.BROADCAST].why
    assert findings[Path.CHANGES].works


async def test_a_path_that_never_gets_ready_is_told_apart(server: PhoenixServer) -> None:
    server.behaviour.readies = {Path.BROADCAST}
    findings = await _diagnose(server, within_s=0.5)
    assert findings[Path.BROADCAST].works
    assert findings[Path.CHANGES] == Finding(
        False, "no answer within 0.5 s; the server may be starting"
    )


async def test_a_project_without_a_secret_is_told_how_to_store_it(server: PhoenixServer) -> None:
    findings = await _diagnose(server, _none)
    assert all("set_jwt_secret" in finding.why for finding in findings.values())


@pytest.mark.parametrize(
    ("status", "why"), [(401, "401"), (429, "429"), (503, "503")], ids=["key", "limit", "down"]
)
async def test_a_handshake_that_fails_is_told_at_once(
    server: PhoenixServer, status: int, why: str
) -> None:
    server.behaviour.refuses = [status] * 10
    findings = await _diagnose(server)
    assert not any(finding.works for finding in findings.values())
    assert all(why in finding.why for finding in findings.values())
    assert len(server.handshakes) == 1


async def test_a_token_that_is_refused_is_told_as_it_was(server: PhoenixServer) -> None:
    findings = await _diagnose(server, _refused)
    assert all("TENDRIL_API_TOKEN" in finding.why for finding in findings.values())


async def test_nothing_listens_any_more_afterwards(server: PhoenixServer) -> None:
    await _diagnose(server)
    assert not server.joined
