"""One cloud, one copy of the templates, one look for the provider, for all tests of this folder."""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tendril_rt import resources
from tendril_rt.control.owner import Registration
from tendril_rt.runner import terraform
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, template_repo

from .cloud import Cloud, StateStore, running_cloud
from .held_apply import HELD

_NOT_INSTALLED = (
    "the AWS provider is not installed: name in TF_CLI_CONFIG_FILE a CLI configuration whose "
    "provider_installation finds hashicorp/aws 5.100 or newer (docs/templates.md)"
)
#: What ``terraform init`` says where it finds no provider, whatever kept it.
_NOT_FOUND = ("Failed to query available provider packages", "Failed to install provider")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give every skip for want of the provider one place: one line of the summary."""
    report = yield
    if call.excinfo is not None and _NOT_INSTALLED in str(call.excinfo.value):
        report.longrepr = (__file__, 0, _NOT_INSTALLED)
    return report


@dataclass(frozen=True)
class Templates:
    """A copy of the shipped templates in which Terraform may leave its files."""

    folder: Path

    def terraform(self, template: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Terraform in one of them, without any cloud."""
        return subprocess.run(
            [terraform.find("auto", os.environ["PATH"]), *arguments],
            cwd=self.folder / template,
            env={**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An empty account; tests are kept apart by regions and project names."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="session")
def store(cloud: Cloud) -> StateStore:
    """Where states go."""
    return StateStore.made_in(cloud, "terraform-states")


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """The shipped templates."""
    folder = tmp_path_factory.mktemp("templates")
    shutil.copytree(
        resources.templates(),
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".terraform*"),
    )
    return Templates(folder)


@pytest.fixture(scope="session")
def aws_provider(templates: Templates) -> None:
    """Skip where Terraform cannot get the AWS provider; any other failure of init is one."""
    # The smallest module that asks for it.
    done = templates.terraform("modules/service_account_role", "init", "-backend=false")
    if any(sign in done.stderr for sign in _NOT_FOUND):
        pytest.skip(_NOT_INSTALLED)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory, templates: Templates) -> str:
    """A git repository of the templates, and ``held``, tagged v1."""
    folder = tmp_path_factory.mktemp("repo")
    shutil.copytree(
        templates.folder,
        folder,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".terraform*"),
    )
    return template_repo(folder, held=HELD)


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    """Agents of a cluster of this test's own."""
    return Fleet(plane, cluster, tmp_path)
