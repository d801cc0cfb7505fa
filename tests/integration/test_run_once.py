"""``tendril run --once``: one provision, and an exit code that says how it ended."""

import signal
from pathlib import Path

import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, snapshot, template_repo

pytestmark = pytest.mark.integration

_BROKEN = 'resource "terraform_data" "x" { input = var.nowhere }\n'


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


async def test_it_runs_one_provision_and_leaves_the_next_to_others(
    fleet: Fleet, user: Owner, cluster: Registration, tmp_path: Path
) -> None:
    repo = template_repo(tmp_path / "templates")
    first, second = [
        await user.create_provision(cluster.cluster_id, snapshot(repo)) for _ in range(2)
    ]
    with fleet.agent("once", "--once") as agent:
        assert await agent.exit_code() == 0
    assert (await ended(user, first)).status is Status.SUCCESS
    left = await user.provision(second)
    assert left is not None
    assert left.status is Status.QUEUED


async def test_it_waits_for_one_and_says_when_it_failed(
    fleet: Fleet, user: Owner, cluster: Registration, tmp_path: Path
) -> None:
    repo = template_repo(tmp_path / "templates", broken=_BROKEN)
    source = {"repo": repo, "version": "v1", "path": "broken"}
    with fleet.agent("once", "--once") as agent:
        await agent.says("online")
        provision_id = await user.create_provision(
            cluster.cluster_id, snapshot(repo, template_source=source, terraform_vars={})
        )
        assert await agent.exit_code() == 3
    assert (await ended(user, provision_id)).status is Status.FAILED


async def test_told_to_end_before_there_was_one_it_ends_well(fleet: Fleet) -> None:
    with fleet.agent("once", "--once") as agent:
        await agent.says("online")
        agent.signal(signal.SIGTERM)
        assert await agent.exit_code() == 0
