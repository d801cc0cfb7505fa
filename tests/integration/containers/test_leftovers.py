"""What a killed run left on the engine."""

import os
import subprocess

import docker.errors
import pytest
from docker.models.containers import Container

from .engine import LABELS, MARKS, Engine

pytestmark = MARKS


def test_only_what_dead_runs_left_is_removed(engine: Engine) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    theirs = {name: str(dead.pid) for name in LABELS}

    def made(labels: dict[str, str]) -> Container:
        return engine.client.containers.create(engine.agent_image, labels=labels)

    left, ours = made(theirs), made(LABELS)
    volume = engine.client.volumes.create(labels=theirs)
    network = engine.client.networks.create(f"left-{os.getpid()}", labels=theirs)
    try:
        engine.remove_leftovers()

        ours.reload()
        for gone in (left, volume, network):
            with pytest.raises(docker.errors.NotFound):
                gone.reload()
    finally:
        ours.remove(v=True)
