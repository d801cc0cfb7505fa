"""An apply on an S3 backend that waits until it is told to go on: for tests of state locks.

The template needs no provider, so neither a download nor a cloud beside the state's::

    gate = Gate(tmp_path / "gate")                # before the provision is queued
    repo = template_repo(folder, held=HELD)       # from tests.integration.agents
    snapshot(repo, template_source={…, "path": "held"}, terraform_vars={"gate": str(gate.path)},
             backend_config=store.backend_config("some/key", "lockfile"))
    …  # "(local-exec): begun" in the log: the apply runs and holds the lock, see store.lock(…)
    gate.open()                                   # or kill something while it is held
"""

import os
from pathlib import Path

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
