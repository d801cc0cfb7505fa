"""The built binaries in a container without Python: git, Terraform and the C library, no more."""

import re
import shutil

import pytest
from testcontainers.core.container import DockerContainer

from tendril_rt import __version__
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status
from tests.integration.agents import ended, log_text, snapshot
from tests.integration.binaries import Binaries

from .engine import LABELS, MARKS, TOP, Engine
from .stage import REPO, Agents

pytestmark = MARKS

_BARE = "tendril-bare:tests"
_RECIPE = """
FROM {terraform} AS terraform
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates git
RUN useradd --uid 10001 --home-dir /srv/agent --create-home agent
COPY --from=terraform /bin/terraform /usr/local/bin/
COPY dist /dist
USER 10001:10001
ENV TENDRIL_STATE_DIR=/srv/agent/state
"""


@pytest.fixture(scope="module")
def bare_image(engine: Engine, binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an image with both binaries and no Python."""
    folder = tmp_path_factory.mktemp("bare")
    shutil.copytree(binaries.folder.parent, folder / "dist" / "tendril-demo", symlinks=True)
    shutil.copy(binaries.alone, folder / "dist")
    terraform = re.search(r"^ARG TERRAFORM_IMAGE=(.+)$", (TOP / "Dockerfile").read_text(), re.M)
    assert terraform is not None
    (folder / "Dockerfile").write_text(_RECIPE.format(terraform=terraform[1]))
    engine.client.images.build(path=str(folder), tag=_BARE, rm=True)
    return _BARE


def test_both_binaries_and_the_demo_run_where_no_python_is(engine: Engine, bare_image: str) -> None:
    script = """
        ! command -v python3 && ! command -v python
        /dist/tendril --version
        /dist/tendril grape --version
        /dist/tendril-demo/tendril demo --once
    """
    said = engine.client.containers.run(
        bare_image, ["sh", "-ec", script], labels=LABELS, remove=True, stderr=True
    ).decode()

    assert f"tendril {__version__}\ngrape {__version__}\n" in said
    assert "● success" in said


async def test_an_agent_of_one_file_runs_a_provision_where_no_python_is(
    agents: Agents, bare_image: str, cluster: Registration, user: Owner
) -> None:
    environment = agents.environment(cluster) | {"TENDRIL_WORKSPACE_DIR": "/srv/agent/work"}
    agent = (
        DockerContainer(bare_image)
        .with_network(agents.stage.network)
        .with_envs(**environment)
        .with_volume_mapping(agents.templates, "/templates")
        .with_command("/dist/tendril run")
        .with_kwargs(labels=LABELS, cap_drop=["ALL"], security_opt=["no-new-privileges"])
    )
    with agent:
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(REPO))

        assert (await ended(user, provision_id)).status is Status.SUCCESS
        assert "Apply complete!" in await log_text(user, provision_id)
