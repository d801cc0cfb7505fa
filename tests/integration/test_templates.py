"""What can be said of the shipped templates without any provider; the rest is in ``tests/aws``."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tendril_rt import resources
from tendril_rt.runner import terraform

pytestmark = pytest.mark.integration


def _terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [terraform.find("auto", os.environ["PATH"]), *arguments],
        cwd=folder,
        env={**os.environ, "CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_template_and_module_is_formatted() -> None:
    done = _terraform(resources.templates(), "fmt", "-check", "-recursive", "-diff")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_hello_is_valid_without_any_download(tmp_path: Path) -> None:
    hello = tmp_path / "hello"
    shutil.copytree(
        resources.templates() / "hello", hello, ignore=shutil.ignore_patterns(".terraform*")
    )
    initialised = _terraform(hello, "init", "-no-color")
    assert initialised.returncode == 0, initialised.stderr
    valid = _terraform(hello, "validate", "-no-color")
    assert valid.returncode == 0, valid.stderr
    assert not (hello / ".terraform" / "providers").exists()


def test_templates_use_the_aws_provider_alone() -> None:
    """No other provider to trust and install, no module that a registry could change."""
    sources = {
        source
        for file in resources.templates().rglob("*.tf")
        for source in re.findall(r'^ +source += "(.+)"$', file.read_text(), re.MULTILINE)
    }
    assert {source for source in sources if not source.startswith("../")} == {"hashicorp/aws"}


def test_every_template_and_module_for_aws_has_tests_of_its_own() -> None:
    """``tests/aws`` runs what it finds, so nothing there would miss them."""
    folders = {versions.parent for versions in resources.templates().rglob("versions.tf")}
    assert {"bootstrap", "standard"} < {folder.name for folder in folders}
    assert [folder for folder in folders if not list(folder.glob("tests/*.tftest.hcl"))] == []


def test_no_template_carries_what_terraform_leaves_behind() -> None:
    """The wheel takes the folder as it is: a provider in it would weigh 700 MB."""
    left = [
        path
        for name in (".terraform", ".terraform.lock.hcl", "*.tfstate*")
        for path in resources.templates().rglob(name)
    ]
    assert left == [], "remove them, and run Terraform in a copy of the templates"
