"""The Docker engine that tests use: is there one, what is ours on it, which images are built."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container
from docker.models.volumes import Volume

TOP = Path(__file__).parents[3]
NO_ENGINE = "no Docker engine answers: start one, or name one in DOCKER_HOST (docs/container.md)"
#: What every module of this folder is marked with.
MARKS = [
    pytest.mark.containers,
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.timeout(900),  # of the first test, which builds the images
]
AGENT_IMAGE = "tendril:tests"
CONTROL_PLANE_IMAGE = "tendril-control-plane:tests"

_LABEL = "tendril-tests"  # its value: the process that made it, so that others' are let alone
LABELS = {_LABEL: str(os.getpid())}


class Engine:
    """An engine that answers."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client

    def remove_leftovers(self) -> None:
        """Remove what runs of this suite left that were killed."""
        ours = {"filters": {"label": _LABEL}}
        for container in self.client.containers.list(all=True, **ours):
            if _is_left(container.labels):
                container.remove(force=True, v=True)
        for network in self.client.networks.list(**ours):
            if _is_left(network.attrs["Labels"]):
                network.remove()
        for volume in self.client.volumes.list(**ours):
            if _is_left(volume.attrs["Labels"]):
                volume.remove()

    @contextmanager
    def volume(self) -> Iterator[Volume]:
        """Keep a volume until the block ends."""
        volume = self.client.volumes.create(labels=LABELS)
        try:
            yield volume
        finally:
            volume.remove()

    @cached_property
    def agent_image(self) -> str:
        """Return the image that ``make image`` builds."""
        return build(AGENT_IMAGE, "agent")

    @cached_property
    def control_plane_image(self) -> str:
        """Return the image of the embedded control plane."""
        return build(CONTROL_PLANE_IMAGE, "control-plane")


def connected() -> Engine:
    """Return the engine; skip where the client, which builds the images, finds none."""
    client = os.environ.get("DOCKER", "docker")
    if (
        shutil.which(client) is None
        or subprocess.run([client, "version"], capture_output=True).returncode
    ):
        pytest.skip(NO_ENGINE)
    return Engine(docker.from_env())


def build(tag: str, target: str, **arguments: str) -> str:
    """Build an image as its users do and return *tag*; fast where nothing has changed."""
    extra = " ".join(f"--build-arg {name}={value}" for name, value in arguments.items())
    done = subprocess.run(
        ["make", "image", f"TAG={tag}", f"TARGET={target}", f"BUILD_ARGS={extra}"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return tag


def _is_left(labels: dict[str, str]) -> bool:
    return not Path(f"/proc/{labels[_LABEL]}").exists()


def exit_code_of(container: Container) -> int:
    """Return how a container ended; it must have."""
    container.reload()
    assert container.status == "exited", container.status
    return int(container.attrs["State"]["ExitCode"])
