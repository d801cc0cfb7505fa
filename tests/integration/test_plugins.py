"""Where real Terraform takes providers from, given the CLI configuration that the agent writes.

The provider is a file of the right name: init copies, links and checks it, and runs nothing of it.
"""

import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tendril_rt.errors import TerraformError
from tendril_rt.runner import cliconfig
from tendril_rt.runner.attended import StopRequest
from tendril_rt.runner.backend import StackDir
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.steps import STOP_POLICIES
from tendril_rt.runner.terraform import Terraform

from .attempts import PROGRAM
from .git_support import ENV
from .runner_support import Recorded, recording

pytestmark = pytest.mark.integration

_SOURCE = "example.com/acme/thing"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_CACHED = f"Using {_SOURCE} v1.0.0 from the shared cache directory"
_FETCHED = f"Installed {_SOURCE} v1.0.0"


@dataclass(frozen=True)
class Agent:
    """Initialises one template after the other, with one CLI configuration."""

    folder: Path
    output: Recorded
    mirror: Path
    cache: Path | None

    async def init(self, name: str, source: str = _SOURCE, lock: str | None = None) -> str:
        """Return what Terraform says in the new workspace *name*."""
        root = self.folder / name
        root.mkdir()
        block = (
            f'terraform {{\n required_providers {{\n thing = {{ source = "{source}" }}\n }}\n}}\n'
        )
        (root / "main.tf").write_text(block)
        if lock is not None:
            (root / ".terraform.lock.hcl").write_text(lock)
        env = child_environment({**ENV, "HOME": str(self.folder)}, [])
        cli = cliconfig.write(self.folder, cache=self.cache, mirror=self.mirror, environ=env)
        terraform = Terraform(
            program=PROGRAM,
            root_module=root,
            run_root=self.folder / f"{name}-run",
            env={**env, **cli.env},
            stack=StackDir.make(self.folder / "state", name),
            default_backend=None,
            output=self.output.reader,
            request=StopRequest(),
        )
        before = len(self.output.stdout)
        await terraform.init(STOP_POLICIES["init"])
        return self.output.stdout[before:]

    def installed(self, name: str) -> Path:
        """Return what the provider of a workspace is a link to."""
        (found,) = (self.folder / name / ".terraform" / "providers" / _SOURCE / "1.0.0").iterdir()
        return found.readlink()

    def lock_of(self, name: str) -> str:
        return (self.folder / name / ".terraform.lock.hcl").read_text()


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Recorded]:
    with recording(tmp_path / "spool") as recorded:
        yield recorded


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A folder as ``terraform providers mirror`` fills it, unpacked, with one provider."""
    mirror = tmp_path / "mirror"
    target = f"linux_{_ARCHITECTURES[platform.machine()]}"
    provider = mirror / _SOURCE / "1.0.0" / target / "terraform-provider-thing_v1.0.0"
    provider.parent.mkdir(parents=True)
    provider.write_text("#!/bin/sh\nexit 1\n")
    provider.chmod(0o755)
    return mirror


@pytest.fixture
def agent(tmp_path: Path, output: Recorded, mirror: Path) -> Agent:
    return Agent(tmp_path, output, mirror, tmp_path / "cache")


async def test_the_second_run_takes_a_provider_from_the_cache(agent: Agent) -> None:
    first = await agent.init("first")
    second = await agent.init("second")

    assert _FETCHED in first
    assert _CACHED in second
    assert agent.cache is not None
    assert agent.installed("first") == agent.installed("second")
    assert agent.installed("second").is_relative_to(agent.cache)


async def test_a_lock_file_of_the_template_is_served_from_the_cache_too(agent: Agent) -> None:
    await agent.init("first")

    said = await agent.init("second", lock=agent.lock_of("first"))

    assert _CACHED in said
    assert agent.lock_of("second") == agent.lock_of("first")


async def test_a_cached_provider_that_is_not_the_locked_one_is_not_taken(agent: Agent) -> None:
    await agent.init("first")
    lock = agent.lock_of("first").replace('"h1:', '"h1:other+')

    with pytest.raises(TerraformError, match="checksum"):
        await agent.init("second", lock=lock)


async def test_a_mirror_alone_serves_what_it_holds(
    tmp_path: Path, output: Recorded, mirror: Path
) -> None:
    agent = Agent(tmp_path, output, mirror, cache=None)

    assert _FETCHED in await agent.init("first")

    assert agent.installed("first").is_relative_to(mirror)


async def test_what_a_mirror_lacks_comes_from_its_registry(agent: Agent) -> None:
    with pytest.raises(TerraformError, match="localhost:1"):
        await agent.init("first", source="localhost:1/acme/other")


async def test_a_version_that_the_mirror_lacks_is_not_looked_for_elsewhere(
    agent: Agent, mirror: Path
) -> None:
    """Else whoever serves the name in the registry could serve the agent."""
    shutil.rmtree(mirror / _SOURCE / "1.0.0")

    with pytest.raises(TerraformError, match="thing"):
        await agent.init("first")
