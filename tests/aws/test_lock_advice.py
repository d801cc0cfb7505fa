"""What a run says of a lock that it meets in S3, and that its command does what it says.

By a table and by a file: both of them outlive whoever took the lock.
"""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tendril_rt.control.owner import Owner
from tendril_rt.model import ProvisionId, Status
from tests.conftest import RunningPlane
from tests.integration.agents import (
    Agent,
    Fleet,
    ended,
    killed,
    pids_of_steps,
)
from tests.integration.runner_support import kill

from .cloud import Json, LockKind, StateStore
from .held_apply import Gate, begun, held

pytestmark = [pytest.mark.aws, pytest.mark.long, pytest.mark.timeout(180)]

_KINDS = pytest.mark.parametrize("kind", ["dynamodb", "lockfile"])


async def _refused(
    fleet: Fleet, user: Owner, configuration: dict[str, object]
) -> Mapping[str, str]:
    """Run into the lock; return the advice."""
    provision_id = await user.create_provision(fleet.cluster.cluster_id, configuration)
    state = await ended(user, provision_id)
    assert (state.status, state.error_code) == (Status.FAILED, "TERRAFORM_FAILED")
    assert "Error acquiring the state lock" in (state.error_message or "")
    with psycopg.connect(fleet.plane.database_url) as connection:
        row = connection.execute(
            "select execution_metadata -> 'lock' from provisions where id = %s", (provision_id,)
        ).fetchone()
    assert row is not None
    lock: Mapping[str, str] = row[0]
    assert lock["command"] in (state.error_message or "")
    return lock


def _run_as_told(command: str, folder: Path, store: StateStore, backend: dict[str, str]) -> None:
    """Run *command* in an initialised root module, in a shell, as a reader of it would."""
    folder.mkdir()
    (folder / "main.tf").write_text('terraform {\n  backend "s3" {}\n}\n')
    settings = [f"-backend-config={name}={value}" for name, value in backend.items()]
    init = shlex.join(["terraform", "init", "-input=false", *settings])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{init} && {command}"],
        cwd=folder,
        env={**os.environ, **store.cloud.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@_KINDS
async def test_a_lock_whose_holder_was_killed_is_orphaned_and_the_command_clears_it(
    fleet: Fleet, user: Owner, repo: str, store: StateStore, gate: Gate, kind: LockKind
) -> None:
    key = f"advice/killed-{kind}.tfstate"
    backend = store.backend_config(key, kind)
    configuration = held(repo, gate, backend)
    cluster_id = fleet.cluster.cluster_id
    with fleet.agent(**store.cloud.environment) as first:
        lost = await user.create_provision(cluster_id, configuration)
        await begun(user, lost)
        killed(first)
        for pid in pids_of_steps(first):
            kill(pid)
    left = store.lock(key, kind)
    with fleet.agent(**store.cloud.environment):
        verdict = await ended(user, lost)
        lock = await _refused(fleet, user, configuration)
        _run_as_told(lock["command"], fleet.folder / "by-hand", store, backend)
        freed = store.lock(key, kind)
        gate.open()
        mended = await ended(user, await user.create_provision(cluster_id, configuration))

    assert verdict.error_code == "AGENT_RESTARTED"
    assert left is not None
    assert (lock["state"], lock["id"]) == ("ORPHANED", left["ID"])
    assert f"attempt 1 of provision {lost} took it, and its process is dead" in lock["reason"]
    assert freed is None
    assert mended.status is Status.SUCCESS, mended.error_message


@_KINDS
async def test_a_lock_of_a_superseded_attempt_that_lives_on_is_held(
    fleet: Fleet, user: Owner, repo: str, store: StateStore, gate: Gate, kind: LockKind
) -> None:
    """Its Terraform hangs, so that it neither ends nor gives the lock back when it is told to."""
    key = f"advice/held-{kind}.tfstate"
    configuration = held(repo, gate, store.backend_config(key, kind))
    with fleet.agent(TENDRIL_CAPACITY="2", **store.cloud.environment) as agent:
        holder = await user.create_provision(fleet.cluster.cluster_id, configuration)
        await begun(user, holder)
        with _stopped(agent):
            _give_up(fleet.plane, holder)
            lock = await _refused(fleet, user, configuration)
            taken = store.lock(key, kind)

    assert taken is not None
    assert (lock["state"], lock["id"]) == ("HELD_BY_LIVE_ATTEMPT", taken["ID"])
    assert f"attempt 1 of provision {holder} holds it and is alive" in lock["reason"]


@contextmanager
def _stopped(agent: Agent) -> Iterator[None]:
    """Stop what the agent's steps run; at the end it goes on, as if it had hung."""
    pids = pids_of_steps(agent)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _give_up(plane: RunningPlane, provision_id: ProvisionId) -> None:
    """Take the stack from an attempt, as if it had been silent for long."""
    with psycopg.connect(plane.database_url) as connection:
        connection.execute("delete from provision_leases where provision_id = %s", (provision_id,))
        connection.execute(
            "update provisions set status = 'FAILED', completed_at = now(), "
            "error_code = 'AGENT_LOST' where id = %s",
            (provision_id,),
        )


@_KINDS
async def test_a_lock_of_a_stranger_is_unknown_and_the_command_clears_it(
    fleet: Fleet, user: Owner, repo: str, store: StateStore, gate: Gate, kind: LockKind
) -> None:
    key = f"advice/stranger-{kind}.tfstate"
    backend = store.backend_config(key, kind)
    configuration = held(repo, gate, backend)
    lock_id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
    store.leave_lock(key, kind, _strangers(lock_id, f"{store.bucket}/{key}"))
    with fleet.agent(**store.cloud.environment):
        lock = await _refused(fleet, user, configuration)

    assert (lock["state"], lock["id"]) == ("UNKNOWN", lock_id)
    assert "jane@laptop took it for OperationTypeApply" in lock["reason"]
    _run_as_told(lock["command"], fleet.folder / "by-hand", store, backend)
    assert store.lock(key, kind) is None


def _strangers(lock_id: str, path: str) -> Json:
    return {
        **{"ID": lock_id, "Operation": "OperationTypeApply", "Info": "", "Path": path},
        **{"Who": "jane@laptop", "Version": "1.11.4", "Created": "2026-01-01T00:00:00.123456789Z"},
    }
