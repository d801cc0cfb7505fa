"""State in S3, locked by a table or by a file: held while an apply runs, gone after it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tendril_rt.control.owner import Owner
from tendril_rt.model import Operation, ProvisionId, Status, StreamType
from tests.integration.agents import Fleet, ended, eventually, log_text, snapshot

from .cloud import LockKind, StateStore
from .held_apply import Gate

pytestmark = [pytest.mark.aws, pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.close()


def _held(repo: str, gate: Gate, backend_config: dict[str, str]) -> dict[str, object]:
    return snapshot(
        repo,
        template_source={"repo": repo, "version": "v1", "path": "held"},
        terraform_vars={"gate": str(gate.path)},
        backend_config=backend_config,
    )


async def _begun(user: Owner, provision_id: ProvisionId) -> None:
    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): begun" in text or None

    await eventually(look, "the apply did not begin")


@pytest.mark.parametrize("kind", ["dynamodb", "lockfile"])
async def test_the_lock_is_held_while_an_apply_runs_and_gone_after_it(
    fleet: Fleet, user: Owner, repo: str, store: StateStore, gate: Gate, kind: LockKind
) -> None:
    key = f"locks/{kind}.tfstate"
    configuration = _held(repo, gate, store.backend_config(key, kind))
    with fleet.agent(**store.cloud.environment):
        applied = await user.create_provision(fleet.cluster.cluster_id, configuration)
        await _begun(user, applied)
        lock = store.lock(key, kind)
        gate.open()
        first = await ended(user, applied)
        destroyed = await user.create_provision(
            fleet.cluster.cluster_id, configuration, operation=Operation.DESTROY
        )
        second = await ended(user, destroyed)

    assert lock is not None
    assert lock["Operation"] == "OperationTypeApply"
    assert first.status is Status.SUCCESS, first.error_message
    assert second.status is Status.SUCCESS, second.error_message
    assert "1 destroyed" in await log_text(user, destroyed, StreamType.STDOUT)
    assert store.lock(key, kind) is None
    state = store.state(key)
    assert state is not None
    assert state["resources"] == []


@pytest.mark.parametrize("kind", ["dynamodb", "lockfile"])
async def test_a_state_that_somebody_else_has_locked_fails_the_run_and_says_who(
    fleet: Fleet, user: Owner, repo: str, store: StateStore, gate: Gate, kind: LockKind
) -> None:
    """Two stacks of the control plane that share one state by mistake: Terraform's lock decides."""
    key = f"locks/shared-{kind}.tfstate"
    configuration = _held(repo, gate, store.backend_config(key, kind))
    other = await user.register_cluster(f"other {kind}")
    with (
        fleet.agent(**store.cloud.environment),
        Fleet(fleet.plane, other, fleet.folder).agent("other", **store.cloud.environment),
    ):
        holder = await user.create_provision(fleet.cluster.cluster_id, configuration)
        await _begun(user, holder)
        refused = await user.create_provision(other.cluster_id, configuration)
        state = await ended(user, refused)
        lock = store.lock(key, kind)
        gate.open()
        held = await ended(user, holder)

    assert (state.status, state.error_code) == (Status.FAILED, "TERRAFORM_FAILED")
    assert state.error_message is not None
    assert "Error acquiring the state lock" in state.error_message
    assert lock is not None
    assert lock["ID"] in await log_text(user, refused, StreamType.STDERR)
    assert held.status is Status.SUCCESS, held.error_message
