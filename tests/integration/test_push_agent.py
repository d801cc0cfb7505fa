"""Push as an agent lives it: a real process, the embedded plane, both paths on one channel."""

import re
import time
from pathlib import Path as FilePath

import anyio
import psycopg
import pytest

from tendril_rt.control.client import AgentInfo, control_plane
from tendril_rt.control.diagnosis import diagnose
from tendril_rt.control.listener import Listener
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.control.push import Announced, Kind, Path, PathDeaf, PushEvent
from tendril_rt.model import AgentId, ProvisionId, Status, StreamType
from tendril_rt.settings import ControlSettings
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, eventually, log_text, snapshot, template_repo

pytestmark = pytest.mark.integration

_SILENT = """
resource "terraform_data" "silent" {
  provisioner "local-exec" { command = "echo begun; sleep 60" }
}
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("templates"), silent=_SILENT)


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: FilePath) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


def _settings(plane: RunningPlane, cluster: Registration) -> ControlSettings:
    return ControlSettings(
        url=plane.url,
        api_key=plane.anon_key,
        cluster_id=cluster.cluster_id,
        api_token=cluster.token,
    )


async def _begun(user: Owner, provision_id: ProvisionId) -> None:
    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): begun" in text or None

    await eventually(look, "the apply did not begin")


async def test_both_paths_work_against_the_embedded_plane(
    plane: RunningPlane, cluster: Registration
) -> None:
    settings = _settings(plane, cluster)
    async with control_plane(settings) as control:
        findings = await diagnose(settings, fetch_token=control.realtime_token)
    assert all(finding.works for finding in findings.values()), findings


async def test_heartbeats_echo_and_inserts_are_announced_on_both_paths(
    plane: RunningPlane, cluster: Registration, user: Owner
) -> None:
    settings = _settings(plane, cluster)
    events: list[PushEvent] = []
    agent = AgentInfo(AgentId("00000000-0000-4000-8000-000000000001"), "host", "0", 1)
    async with control_plane(settings) as control, anyio.create_task_group() as tasks:
        listener = Listener(
            settings,
            fetch_token=control.realtime_token,
            wake=lambda _: None,
            on_event=events.append,
        )
        tasks.start_soon(listener.run)

        def heard(kind: Kind) -> bool:
            return any(isinstance(e, Announced) and e.kind is kind for e in events)

        async def both() -> bool | None:
            return listener.ready == set(Path) or None

        await eventually(both, "not ready")
        sent_at = anyio.current_time()
        listener.beat_sent(sent_at)
        await control.heartbeat(agent, {}, is_draining=False)
        listener.beat_answered(sent_at)
        await user.create_provision(cluster.cluster_id, snapshot("https://example.test/t.git"))

        async def all_kinds() -> bool | None:
            return all(heard(kind) for kind in Kind) or None

        await eventually(all_kinds, "something was not heard", lambda: str(events))
        assert not [event for event in events if isinstance(event, PathDeaf)]
        tasks.cancel_scope.cancel()


async def test_a_cancel_reaches_a_silent_apply_long_before_the_next_heartbeat(
    fleet: Fleet, user: Owner, repo: str
) -> None:
    source = {"repo": repo, "version": "v1", "path": "silent"}
    with fleet.agent(TENDRIL_HEARTBEAT_INTERVAL_S="40", TENDRIL_POLL_INTERVAL_S="300") as agent:
        await agent.says("realtime: broadcast is ready")
        provision_id = await user.create_provision(
            fleet.cluster.cluster_id,
            snapshot(repo, template_source=source, terraform_vars={}),
        )
        await _begun(user, provision_id)
        began = time.monotonic()
        await user.cancel_provision(provision_id)
        state = await ended(user, provision_id)
        took_s = time.monotonic() - began
    assert state.status is Status.CANCELLED
    assert took_s < 8, "it was learnt from the next line (10 s later) or from a heartbeat"


async def test_a_wakeup_for_an_agent_that_runs_something_brings_one_heartbeat_and_no_loop(
    fleet: Fleet, plane: RunningPlane, user: Owner, repo: str
) -> None:
    """Heartbeats cause pulses, and pulses cause nothing."""
    source = {"repo": repo, "version": "v1", "path": "silent"}
    with fleet.agent(TENDRIL_HEARTBEAT_INTERVAL_S="40", TENDRIL_POLL_INTERVAL_S="300") as agent:
        await agent.says("realtime: broadcast is ready")
        first = await user.create_provision(
            fleet.cluster.cluster_id,
            snapshot(repo, template_source=source, terraform_vars={}),
        )
        await _begun(user, first)
        before = _beats(plane, fleet)
        second = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))

        async def beaten() -> bool | None:
            return _beats(plane, fleet) > before or None

        await eventually(beaten, "the wakeup brought no heartbeat")
        await anyio.sleep(3)  # a loop would have used it
        assert _beats(plane, fleet) == before + 1
        await user.cancel_provision(second)
        await user.cancel_provision(first)
        await ended(user, first)


def _beats(plane: RunningPlane, fleet: Fleet) -> int:
    """Return how many pulses the cluster's heartbeats have sent so far."""
    with psycopg.connect(plane.database_url) as connection:
        row = connection.execute(
            "select count(*) from realtime.messages where event = 'pulse' and topic = %s",
            (f"cluster:{fleet.cluster.cluster_id}",),
        ).fetchone()
    assert row is not None
    return int(row[0])


async def test_an_agent_is_told_ready_on_both_paths_and_hears_them_for_a_while(
    fleet: Fleet, user: Owner, repo: str
) -> None:
    with fleet.agent(TENDRIL_HEARTBEAT_INTERVAL_S="0.5", TENDRIL_POLL_INTERVAL_S="300") as agent:
        await agent.says("realtime: broadcast is ready")
        await agent.says("realtime: postgres_changes is ready")
        provision_id = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))
        assert (await ended(user, provision_id)).status is Status.SUCCESS
        await anyio.sleep(7)  # longer than a pulse may take
        assert not re.search(r"deaf|did not bring|BACKOFF", agent.log), agent.log
