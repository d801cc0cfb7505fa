"""docs/container.md: what it tells its readers to type, typed."""

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tendril_rt.control.owner import Registration
from tests.integration.agents import eventually

from .engine import LABELS, MARKS, TOP, Engine
from .stage import Agents

pytestmark = MARKS

_PAGE = (TOP / "docs" / "container.md").read_text(encoding="utf-8")
_LABEL = next(f"--label {name}={value}" for name, value in LABELS.items())


class Reader:
    """Types the commands of one example, with names of this test's own in the place of the page's.

    :param names: what to write for a word of the page
    """

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        self._folder = folder
        self._names = {"docker": os.environ.get("DOCKER", "docker"), **names}

    def types(self, command: str) -> str:
        """Type one command; return what it printed."""
        for word, name in self._names.items():
            command = re.sub(rf"(?<![\w./-]){re.escape(word)}(?![\w.-])", name, command)
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    async def sees(self, command: str, text: str) -> None:
        """Type *command* until it prints *text*."""

        async def seen() -> bool | None:
            return True if text in self.types(command) else None

        await eventually(seen, f"{command} does not show {text!r}", lambda: self.types(command))


def _example(beginning: str) -> list[str]:
    """Return the commands of the example that begins with *beginning*."""
    blocks = re.findall(r"^```sh needs-docker\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)
    (block,) = (block for block in blocks if block.startswith(beginning))
    return str(block).replace("\\\n", "").strip().splitlines()


@contextmanager
def _cleared(engine: Engine, *names: str) -> Iterator[None]:
    try:
        yield
    finally:
        for container in engine.client.containers.list(all=True):
            if container.name in names:
                container.remove(force=True, v=True)


async def test_an_agent_is_run_as_the_page_says(
    agents: Agents, cluster: Registration, state: str, tmp_path: Path
) -> None:
    name = f"tendril-{uuid.uuid4()}"
    settings = agents.environment(cluster)
    (tmp_path / "tendril.env").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
    run, logs, doctor, stop, remove = _example("docker run --detach --name tendril")
    run = run.replace("tendril:/var", f"{state}:/var")
    run = run.replace("tendril:dev", f"{_LABEL} --network {agents.stage.network.name} IMAGE")
    doctor = doctor.replace("exec tendril tendril", "exec tendril PROGRAM")
    reader = Reader(
        tmp_path, {"tendril": name, "IMAGE": agents.engine.agent_image, "PROGRAM": "tendril"}
    )
    with _cleared(agents.engine, name):
        reader.types(run)
        await reader.sees(logs, "online: cluster")
        assert "FAIL" not in reader.types(doctor)
        reader.types(stop)
        assert "nothing is left running" in reader.types(logs)
        reader.types(remove)


async def test_a_control_plane_is_run_as_the_page_says(engine: Engine, tmp_path: Path) -> None:
    network, database, plane, logs = _example("docker network create trial")
    names = {word: f"{word}-{uuid.uuid4()}" for word in ("trial", "database", "plane")}
    names["tendril-control-plane:dev"] = engine.control_plane_image
    reader = Reader(tmp_path, names)
    reader.types(network.replace("create", f"create {_LABEL}"))
    with _cleared(engine, names["database"], names["plane"]):
        reader.types(database.replace("--detach", f"--detach {_LABEL}"))
        reader.types(plane.replace("--detach", f"--detach {_LABEL}").replace("1:54321:", "1::"))
        await reader.sees(logs, "anon key")
    reader.types("docker network rm trial")
