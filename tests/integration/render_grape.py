"""Writes ``docs/grape.md`` from a control plane and an agent of its own.

``python -m tests.integration.render_grape > docs/grape.md``
"""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from tests.conftest import TENDRIL, RunningPlane

from .grape_page import grape_page


def main() -> None:
    """Print the page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = subprocess.Popen(
            [*TENDRIL, "dev", "--json", "--data", str(folder / "plane")], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        with process.stdout:
            plane = RunningPlane(**orjson.loads(process.stdout.readline()))
            page = grape_page(plane, folder)
            process.send_signal(signal.SIGTERM)
            process.wait(20)
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
