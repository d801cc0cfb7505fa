"""Where a sensitive value may not show up while a provision runs, and after it: nowhere."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ProvisionId, Status, StreamType
from tests.conftest import RunningPlane
from tests.integration.agents import (
    Agent,
    Fleet,
    ended,
    eventually,
    log_text,
    snapshot,
    template_repo,
)

pytestmark = pytest.mark.integration

#: Prints its secret in three ways, whole and in pieces, waits, and fails with it on stderr.
_TELLS_ALL = """
variable "until" { type = string }
variable "secret" { type = string }
resource "terraform_data" "tells" {
  input = var.secret
  provisioner "local-exec" {
    environment = { SECRET = var.secret }
    command = <<-EOT
      echo "plain $SECRET"
      printf '%s' "$SECRET" | base64 -w 0; echo
      printf '%s' "$SECRET" | cut -c 1-9 | tr -d '\\n'; sleep 0.7
      printf '%s\\n' "$SECRET" | cut -c 10-
      echo begun
      while [ ! -e '${var.until}' ]; do sleep 0.05; done
      echo "failed with $SECRET" >&2
      exit 3
    EOT
  }
}
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("templates"), tells=_TELLS_ALL)


def _files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()


def _command_lines() -> Iterator[tuple[str, bytes]]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield process.name, (process / "cmdline").read_bytes()
        except OSError:  # it has ended
            continue


def _stored(plane: RunningPlane, provision_id: ProvisionId) -> bytes:
    """Return all that the database has of the provision, but for what was submitted."""
    with psycopg.connect(plane.database_url) as connection:
        rows = connection.execute(
            "select log_chunk from provision_logs where provision_id = %(id)s union all "
            "select concat(error_message, error_code, execution_metadata) from provisions "
            "where id = %(id)s union all "
            "select detail::text from audit_events where provision_id = %(id)s",
            {"id": provision_id},
        ).fetchall()
    return "\n".join(str(row[0]) for row in rows).encode()


async def test_a_secret_is_in_no_log_spool_message_or_list_of_processes(
    plane: RunningPlane, cluster: Registration, user: Owner, repo: str, tmp_path: Path
) -> None:
    secret = secrets.token_hex(20)
    gate = tmp_path / "go"
    source = {"repo": repo, "version": "v1", "path": "tells"}
    submitted = snapshot(
        repo,
        template_source=source,
        terraform_vars={"secret": secret, "until": str(gate)},
        sensitive=["secret"],
    )
    with Fleet(plane, cluster, tmp_path).agent(TENDRIL_LOG_LEVEL="debug") as agent:
        provision_id = await user.create_provision(cluster.cluster_id, submitted)

        async def begun() -> bool | None:
            text = await log_text(user, provision_id, StreamType.STDOUT)
            return "(local-exec): begun" in text or None

        await eventually(begun, "the apply did not begin")
        _looks_clean_while_it_runs(agent, secret)
        gate.touch()
        state = await ended(user, provision_id)
        assert state.status is Status.FAILED
        assert "failed with [redacted]" in (state.error_message or "")
        assert secret not in agent.log

    text = await log_text(user, provision_id, StreamType.STDOUT)
    assert text.count("[redacted]") >= 3
    assert "plain [redacted]" in text
    assert secret.encode() not in _stored(plane, provision_id)
    # The state holds it, as Terraform's states do; nothing else of the agent's does.
    for path, content in _files_below(agent.state_dir):
        assert secret.encode() not in content or "tfstate" in path.parts, path


def _looks_clean_while_it_runs(agent: Agent, secret: str) -> None:
    spools = [content for _, content in _files_below(agent.state_dir / "spool")]
    assert any(b"plain [redacted]" in content for content in spools)
    assert not any(secret.encode() in content for content in spools)
    for pid, line in _command_lines():
        assert secret.encode() not in line, f"process {pid}: {line!r}"
