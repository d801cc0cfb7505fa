"""An apply on an S3 backend that waits until it is told to go on: for tests of state locks.

The template needs no provider, so neither a download nor a cloud beside the state's::

    gate = Gate(tmp_path / "gate")                # before the provision is queued
    repo = template_repo(folder, held=HELD)       # from tests.integration.agents
    held(repo, gate, store.backend_config("some/key", "lockfile"))  # to be queued
    await begun(user, provision_id)               # it holds the lock: see store.lock(…)
    gate.open()                                   # or kill something while it is held
"""

import os
from collections.abc import Mapping
from pathlib import Path

from tendril_rt.control.owner import Owner
from tendril_rt.model import ProvisionId, StreamType
from tests.integration.agents import eventually, log_text, snapshot

HELD = """
terraform {
  backend "s3" {}
}

variable "gate" {
  type = string
}

resource "terraform_data" "held" {
  triggers_replace = [var.gate]

  provisioner "local-exec" {
    interpreter = ["/bin/sh", "-c"]
    command     = "echo begun; read -r _ < \\"$GATE\\"; echo released"
    environment = { GATE = var.gate }
  }
}
"""


def held(repo: str, gate: "Gate", backend_config: Mapping[str, str]) -> dict[str, object]:
    """Return a configuration whose apply waits for *gate*."""
    return snapshot(
        repo,
        template_source={"repo": repo, "version": "v1", "path": "held"},
        terraform_vars={"gate": str(gate.path)},
        backend_config=dict(backend_config),
    )


async def begun(user: Owner, provision_id: ProvisionId) -> None:
    """Wait until the apply holds the lock and waits."""

    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): begun" in text or None

    # A loaded machine takes its time to read a provider of half a gigabyte.
    await eventually(look, "the apply did not begin", within_s=100.0)


class Gate:
    """A FIFO that a held apply reads one line from.

    Open at both ends from the start, so that neither side waits for the other to open it, and the
    line is kept for a reader that comes later.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def open(self) -> None:
        """Let one apply go on."""
        os.write(self._fd, b"go\n")

    def close(self) -> None:
        """Give the descriptor back; an apply that is still held reads the end and goes on."""
        os.close(self._fd)
