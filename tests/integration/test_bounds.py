"""What an agent holds on to does not grow with what it has done."""

from pathlib import Path

import pytest

from tendril_rt.control.owner import Owner, Registration
from tests.conftest import RunningPlane
from tests.integration.agents import Agent, Fleet, ended, eventually, snapshot, template_repo

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(300)]

_WARM_UP, _PROVISIONS = 20, 200
_IDLE_CONNECTIONS = 2  # one more may be kept open for the next call
_MAX_GROWTH_MB = 6.0  # the allocator's own ups and downs; a leak of 50 KB per run would be 10


def _descriptors(agent: Agent) -> int:
    return len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))


def _children(agent: Agent) -> str:
    pid = agent.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def _resident_mb(agent: Agent) -> float:
    status = Path(f"/proc/{agent.process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def _instant_terraform(folder: Path) -> str:
    """Return a Terraform that succeeds at once: what is looked at here is the agent."""
    program = folder / "terraform"
    program.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo Terraform v1.0.0 || echo "$1: done"\n'
    )
    program.chmod(0o755)
    return str(program)


async def test_descriptors_processes_and_memory_stay_flat_over_200_provisions(
    plane: RunningPlane, cluster: Registration, user: Owner, tmp_path: Path
) -> None:
    repo = template_repo(tmp_path / "templates")
    program = _instant_terraform(tmp_path)

    async def run(agent: Agent, count: int) -> tuple[int, float]:
        """Run *count* provisions; return descriptors and memory once nothing runs any more."""
        queued = [
            await user.create_provision(cluster.cluster_id, snapshot(repo)) for _ in range(count)
        ]
        assert (await ended(user, queued[-1], within_s=250)).status.value == "SUCCESS"

        async def idle() -> bool | None:
            spools = list((agent.state_dir / "spool").iterdir())
            return True if not spools and not _children(agent) else None

        await eventually(idle, "something is left", lambda: agent.log[-2000:])
        return _descriptors(agent), _resident_mb(agent)

    with Fleet(plane, cluster, tmp_path).agent(TENDRIL_TERRAFORM=program) as agent:
        await agent.says("READY")
        before = await run(agent, _WARM_UP)
        after = await run(agent, _PROVISIONS)
    assert after[0] <= before[0] + _IDLE_CONNECTIONS
    assert after[1] - before[1] < _MAX_GROWTH_MB
