"""One SIGTERM is enough: what does not end by itself is interrupted while there is time to tell."""

import signal
from pathlib import Path

import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ENDING, Status
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, eventually, log_text, snapshot, template_repo

pytestmark = pytest.mark.integration

_ENDLESS = """
resource "terraform_data" "endless" {
  provisioner "local-exec" { command = "echo begun; exec sleep 600" }
}
"""


async def test_when_only_the_ending_of_the_grace_is_left_terraform_is_interrupted_and_reported(
    plane: RunningPlane, cluster: Registration, user: Owner, tmp_path: Path
) -> None:
    repo = template_repo(tmp_path / "templates", endless=_ENDLESS)
    source = {"repo": repo, "version": "v1", "path": "endless"}
    fleet = Fleet(plane, cluster, tmp_path)
    with fleet.agent("agent", "--once", TENDRIL_GRACE_S=f"{ENDING.total_s + 0.5:g}") as agent:
        provision_id = await user.create_provision(
            cluster.cluster_id, snapshot(repo, template_source=source, terraform_vars={})
        )

        async def begun() -> bool | None:
            return "(local-exec): begun" in await log_text(user, provision_id) or None

        await eventually(begun, "the apply did not begin", lambda: agent.log)
        agent.signal(signal.SIGTERM)
        assert await agent.exit_code() == 3
    state = await ended(user, provision_id)
    assert (state.status, state.error_code) == (Status.FAILED, "AGENT_SHUTDOWN")
    log = await log_text(user, provision_id)
    assert "FAILED after" in log  # the last line of the log was delivered in the ending too
