"""The AWS provider by the agent's own settings: from a mirror, the second time from the cache."""

import os
import re
from pathlib import Path

import pytest

from tendril_rt.control.owner import Owner
from tendril_rt.model import Status
from tests.integration.agents import Fleet, ended, log_text, snapshot, template_repo

pytestmark = [pytest.mark.aws, pytest.mark.long, pytest.mark.timeout(300)]

_NEEDS_AWS = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}
output "said" { value = "nothing of AWS" }
"""


@pytest.fixture
def mirror(aws_provider: None) -> Path:
    """The mirror of the machine's own CLI configuration."""
    file = Path(os.environ.get("TF_CLI_CONFIG_FILE", Path.home() / ".terraformrc"))
    found = re.search(r'filesystem_mirror\s*{[^}]*path\s*=\s*"([^"]+)"', file.read_text())
    assert found, f"{file} names no filesystem_mirror: the provider came from elsewhere"
    return Path(found[1])


async def test_the_provider_comes_from_the_mirror_and_then_from_the_cache(
    fleet: Fleet, user: Owner, mirror: Path, tmp_path: Path
) -> None:
    repo, cache = template_repo(tmp_path / "repo", aws=_NEEDS_AWS), tmp_path / "cache"
    source = {"repo": repo, "version": "v1", "path": "aws"}
    configuration = snapshot(repo, template_source=source, terraform_vars={})
    settings = {
        "TENDRIL_PLUGIN_CACHE_DIR": str(cache),
        "TENDRIL_PLUGIN_MIRROR_DIR": str(mirror),
        "TF_CLI_CONFIG_FILE": "/dev/null",
    }
    said: list[str] = []
    with fleet.agent(**settings):
        for _ in range(2):
            provision_id = await user.create_provision(fleet.cluster.cluster_id, configuration)
            state = await ended(user, provision_id, within_s=120)
            assert state.status is Status.SUCCESS, state.error_message
            said.append(await log_text(user, provision_id))

    assert "Installed hashicorp/aws v" in said[0]
    assert re.search(r"Using hashicorp/aws v\S+ from the shared cache directory", said[1])
    assert list(cache.glob("registry.terraform.io/hashicorp/aws/*/*/terraform-provider-aws*"))
