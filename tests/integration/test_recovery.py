"""A killed agent's next life: what it finds, takes up, tells and clears away."""

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ProvisionId, Status, StreamType
from tests.chaos.proxy import Mode, proxying
from tests.conftest import RunningPlane
from tests.integration.agents import (
    Agent,
    Fleet,
    ended,
    eventually,
    killed,
    log_text,
    pids_of_steps,
    snapshot,
    template_repo,
)

from .runner_support import kill

pytestmark = pytest.mark.integration

#: Prints numbered lines until the file is there; then a last one.
_COUNTS = """
variable "until" { type = string }
resource "terraform_data" "counts" {
  provisioner "local-exec" {
    command = <<-EOT
      n=0
      while [ ! -e '${var.until}' ]; do n=$((n+1)); echo "line $n"; sleep 0.02; done
      echo "$n lines in all"
    EOT
  }
}
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("templates"), counts=_COUNTS)


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "go"


async def _counting(user: Owner, fleet: Fleet, repo: str, gate: Path) -> ProvisionId:
    source = {"repo": repo, "version": "v1", "path": "counts"}
    configuration = snapshot(repo, template_source=source, terraform_vars={"until": str(gate)})
    return await user.create_provision(fleet.cluster.cluster_id, configuration)


async def _prints(user: Owner, provision_id: ProvisionId) -> None:
    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): line 3\n" in text or None

    await eventually(look, "the apply did not begin")


def _lines(text: str) -> list[str]:
    printed = [line.partition("(local-exec): ")[2] for line in text.splitlines()]
    return [line for line in printed if line.startswith("line ") or line.endswith(" in all")]


async def _is_there(path: Path) -> bool | None:
    return await anyio.Path(path).exists() or None


def _open(gate: Path) -> None:
    gate.touch()


def _terraforms(agent: Agent) -> list[int]:
    pids = pids_of_steps(agent)
    return sorted(pid for pid in pids if _name_of(pid).startswith("terraform"))


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:  # it has ended
        return ""


async def test_a_terraform_that_outlived_its_agent_is_taken_up_and_no_line_is_missing(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
        alive = _terraforms(first)
        assert alive
    with fleet.agent() as second:
        await second.says("taking up provision")
        assert _terraforms(second) == alive, "the same processes go on"
        _open(gate)
        state = await ended(user, provision_id)
        await second.says(f"provision {provision_id}: SUCCESS")
        assert pids_of_steps(second) == []
        assert list(second.workspace_dir.iterdir()) == []
        assert list((second.state_dir / "spool").iterdir()) == []
        assert list((second.state_dir / "attempts").iterdir()) == []

    assert state.status is Status.SUCCESS, state.error_message
    assert state.attempt == 1
    *lines, last = _lines(await log_text(user, provision_id, StreamType.STDOUT))
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert last == f"{len(lines)} lines in all"
    assert "the agent was restarted" in await log_text(user, provision_id, StreamType.SYSTEM)


async def test_what_a_cancel_ended_while_nobody_looked_is_cancelled(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    port = urlsplit(fleet.plane.url).port
    assert port is not None
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        run_dir = first.workspace_dir / provision_id / "run" / "apply"
        # Until it goes on, the signal waits: so the agent is gone before it can see the end.
        terraform = int((run_dir / "process").read_text().split()[0])
        os.kill(terraform, signal.SIGSTOP)
        await user.cancel_provision(provision_id)
        await eventually(lambda: _is_there(run_dir / "interrupted"), "it was not interrupted")
        killed(first)
        os.kill(terraform, signal.SIGCONT)
        await eventually(lambda: _is_there(run_dir / "exit_code"), "it did not end")
    async with proxying(port) as proxy:
        proxy.become(Mode.STALL)
        with fleet.agent(SUPABASE_URL=f"http://127.0.0.1:{proxy.port}") as second:
            await second.says("asking the control plane why")
            proxy.become(Mode.PASS)
            state = await ended(user, provision_id)
            second.signal(signal.SIGTERM)
            assert await second.exit_code() == 0

    assert (state.status, state.error_code) == (Status.CANCELLED, "CANCELLED"), state.error_message


async def test_an_apply_that_ended_while_nobody_looked_ends_with_its_own_result(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
        _open(gate)
        run_dir = first.workspace_dir / provision_id / "run" / "apply"

        async def has_ended() -> bool | None:
            return (run_dir / "exit_code").exists() or None

        await eventually(has_ended, "the apply did not end")
    with fleet.agent():
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message
    *lines, last = _lines(await log_text(user, provision_id, StreamType.STDOUT))
    assert last == f"{len(lines)} lines in all"


async def test_an_apply_that_was_killed_with_its_agent_fails_and_says_what_to_do(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
        for pid in pids_of_steps(first):
            kill(pid)
    with fleet.agent() as second:
        state = await ended(user, provision_id)
        await second.says(f"provision {provision_id}: FAILED")
        assert list(second.workspace_dir.iterdir()) == []

    assert state.error_code == "AGENT_RESTARTED"
    assert "did not outlive it" in (state.error_message or "")
    lines = _lines(await log_text(user, provision_id, StreamType.STDOUT))
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)], "an exact prefix"


async def test_an_agent_that_is_restarted_while_the_control_plane_is_away_goes_on(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
    with fleet.agent(SUPABASE_URL="http://127.0.0.1:9") as deaf:
        await deaf.says("taking up provision")
        await deaf.says("cannot reach the control plane")
        assert pids_of_steps(deaf) != []
        killed(deaf)
    _open(gate)
    with fleet.agent():
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message
    *lines, last = _lines(await log_text(user, provision_id, StreamType.STDOUT))
    assert last == f"{len(lines)} lines in all"


async def test_an_attempt_that_was_superseded_is_stopped_and_changes_no_verdict(
    fleet: Fleet, plane: RunningPlane, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
    with psycopg.connect(plane.database_url) as connection:  # as if it had been given up long ago
        connection.execute("delete from provision_leases where provision_id = %s", (provision_id,))
        connection.execute(
            "update provisions set status = 'FAILED', completed_at = now(), "
            "error_code = 'AGENT_LOST' where id = %s",
            (provision_id,),
        )
    with fleet.agent() as second:
        await second.says(f"provision {provision_id}: FAILED")

        async def is_stopped() -> bool | None:
            return pids_of_steps(second) == [] or None

        await eventually(is_stopped, "its processes live on")
        assert list(second.workspace_dir.iterdir()) == []

    state = await user.provision(provision_id)
    assert state is not None
    assert state.error_code == "AGENT_LOST"


async def test_the_workspace_of_another_agent_that_may_come_back_is_left_alone(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    shared = str(fleet.folder / "shared")
    with fleet.agent("one", TENDRIL_WORKSPACE_DIR=shared) as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
    with fleet.agent("two", TENDRIL_WORKSPACE_DIR=shared) as neighbour:
        await neighbour.says("online")
        assert (Path(shared) / provision_id).is_dir()
    with fleet.agent("one", TENDRIL_WORKSPACE_DIR=shared):
        _open(gate)
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message


async def test_twice_killed_is_as_good_as_once(
    fleet: Fleet, user: Owner, repo: str, gate: Path
) -> None:
    with fleet.agent() as first:
        provision_id = await _counting(user, fleet, repo, gate)
        await _prints(user, provision_id)
        killed(first)
    with fleet.agent() as second:
        await second.says("taking up provision")
        killed(second)
    with fleet.agent():
        _open(gate)
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message
    *lines, last = _lines(await log_text(user, provision_id, StreamType.STDOUT))
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert last == f"{len(lines)} lines in all"
