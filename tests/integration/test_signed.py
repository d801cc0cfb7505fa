"""Signed provisions, from ``grape`` to the agent that trusts one key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tendril_rt.control.owner import Owner, ProvisionState, Registration
from tendril_rt.control.signing import make_key
from tendril_rt.model import Operation, ProvisionId, Status
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, snapshot, template_repo

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("templates"))


async def test_an_agent_with_trusted_keys_runs_what_was_signed_and_as_it_was_signed(
    plane: RunningPlane, cluster: Registration, user: Owner, repo: str, tmp_path: Path
) -> None:
    signer = make_key(tmp_path / "key")
    submitted = snapshot(repo)
    good = await user.create_provision(cluster.cluster_id, submitted, signer=signer)
    unsigned = await user.create_provision(cluster.cluster_id, submitted)
    changed = await user.create_provision(cluster.cluster_id, submitted, signer=signer)
    moved = await user.create_provision(cluster.cluster_id, submitted, signer=signer)
    late = await user.create_provision(cluster.cluster_id, submitted, signer=signer, not_after=1)
    with psycopg.connect(plane.database_url) as connection:
        connection.execute(
            "update provisions set operation = %s where id = %s", (Operation.DESTROY, changed)
        )
        connection.execute("update provisions set stack_key = 'x' where id = %s", (moved,))

    with Fleet(plane, cluster, tmp_path).agent(TENDRIL_TRUSTED_KEYS=signer.public_key):
        state = await ended(user, good)
        assert state.status is Status.SUCCESS, state.error_message
        assert "is not signed" in _refused(await ended(user, unsigned))
        assert "changed after it was signed" in _refused(await ended(user, changed))
        assert "changed after it was signed" in _refused(await ended(user, moved))
        assert "held until 1970-01-01" in _refused(await ended(user, late))


async def test_grape_signs_what_it_deploys(
    plane: RunningPlane, cluster: Registration, user: Owner, repo: str, tmp_path: Path
) -> None:
    key, configuration = tmp_path / "deploy.key", tmp_path / "configuration.json"
    made = _grape(plane, cluster, "keygen", str(key))
    assert made.returncode == 0, made.stderr
    configuration.write_text(json.dumps(snapshot(repo)))
    queued = _grape(plane, cluster, "deploy", str(configuration), "--sign-with", str(key))
    assert queued.returncode == 0, queued.stderr
    provision_id = ProvisionId(queued.stdout.split()[2])

    public_key = made.stdout.split()[0]
    with Fleet(plane, cluster, tmp_path).agent(TENDRIL_TRUSTED_KEYS=public_key):
        state = await ended(user, provision_id)
    assert state.status is Status.SUCCESS, state.error_message

    again = _grape(plane, cluster, "keygen", str(key))
    assert again.returncode == 2
    assert "File exists" in again.stderr


def _refused(state: ProvisionState) -> str:
    assert state.status is Status.FAILED
    assert state.error_code == "SIGNATURE_REFUSED"
    return state.error_message or ""


def _grape(
    plane: RunningPlane, cluster: Registration, *arguments: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tendril_rt.cli.grape", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "GRAPE_URL": plane.url,
            "GRAPE_KEY": plane.anon_key,
            "GRAPE_TOKEN": plane.user_token,
            "GRAPE_CLUSTER": cluster.cluster_id,
        },
        check=False,
    )
