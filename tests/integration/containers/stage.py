"""What plays: a control plane in containers, agents of the built image, the templates they run."""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import orjson
from docker.models.containers import Container
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from tendril_rt.control.owner import Registration
from tests.conftest import RunningPlane
from tests.integration.agents import eventually, snapshot, template_repo

from .engine import LABELS, Engine, exit_code_of

_POSTGRES = "postgres:15"
_PASSWORD = "only-for-tests"
_GATEWAY_PORT = 54321
_UID = 10001
REPO = "file:///templates/repo"

#: As docs/container.md runs it.
LOCKED_DOWN = {
    "user": f"{_UID}:{_UID}",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "mem_limit": "512m",
    "pids_limit": 256,
}
_TMP = "size=64m,mode=1777,noexec,nosuid,nodev"

#: Counts until it is let go; how far it came is also in /tmp, where no log is needed to see it.
HELD = """
resource "terraform_data" "held" {
  triggers_replace = [timestamp()]

  provisioner "local-exec" {
    quiet       = true
    interpreter = ["/bin/sh", "-c"]
    command     = <<-EOT
      i=0
      while [ ! -e /tmp/go ]; do
        i=$((i + 1))
        echo "count $i"
        echo $i >/tmp/count
        sleep 0.1
      done
      echo released
    EOT
  }
}
"""

#: What a held apply prints at its end; a failure quotes the whole command.
RELEASED = "(local-exec): released"

#: Looks for the agent's token in whatever runs as the same user, also checks of its health.
CURIOUS = """
resource "terraform_data" "curious" {
  provisioner "local-exec" {
    quiet       = true
    interpreter = ["/bin/sh", "-c"]
    command     = <<-EOT
      end=$(($(date +%s) + 4))
      while [ "$(date +%s)" -lt "$end" ]; do
        grep -lz '^TENDRIL_API_TOKEN=' /proc/[0-9]*/environ 2>/dev/null | sed 's/^/token in /'
      done
      grep -lz '^PROVISION_STEP_DIR=' /proc/[0-9]*/environ 2>/dev/null | sed 's/^/mark in /'
    EOT
  }
}
"""


@dataclass(frozen=True)
class Stage:
    """A running control plane.

    :ivar plane: as the tests reach it
    :ivar inner_url: as agents reach it, within *network*
    :ivar postgres: its database
    """

    plane: RunningPlane
    inner_url: str
    network: Network
    postgres: DockerContainer


@contextmanager
def network_of_our_own() -> Iterator[Network]:
    """Make a network that ends with the block."""
    with Network(docker_network_kw={"labels": LABELS}) as network:
        yield network


@contextmanager
def embedded(engine: Engine) -> Iterator[Stage]:
    """Run Postgres, and before it the gateway of the built image, until the block ends."""
    with network_of_our_own() as network:
        postgres = (
            PostgresContainer(_POSTGRES, username="postgres", password=_PASSWORD, driver=None)
            .with_network(network)
            .with_network_aliases("database")
            .with_command("postgres -c wal_level=logical -c fsync=off")
            .with_kwargs(labels=LABELS)
        )
        gateway = (
            DockerContainer(engine.control_plane_image)
            .with_network(network)
            .with_network_aliases("gateway")
            .with_env(
                "TENDRIL_LOCAL_DATABASE_URL", f"postgresql://postgres:{_PASSWORD}@database/postgres"
            )
            .with_command(f"dev --json --host 0.0.0.0 --port {_GATEWAY_PORT} --data /tmp/plane")
            .with_exposed_ports(_GATEWAY_PORT)
            .with_tmpfs_mount("/tmp", _TMP)
            .with_kwargs(labels=LABELS, **LOCKED_DOWN)
            .waiting_for(LogMessageWaitStrategy("anon_key"))
        )
        with postgres, gateway:
            keys = orjson.loads(gateway.get_logs()[0])
            host, port = gateway.get_container_host_ip(), gateway.get_exposed_port(_GATEWAY_PORT)
            plane = RunningPlane(**{**keys, "url": f"http://{host}:{port}"})
            yield Stage(plane, f"http://gateway:{_GATEWAY_PORT}", network, postgres)


@contextmanager
def templates(engine: Engine, folder: Path) -> Iterator[str]:
    """Keep a volume with a repository of templates until the block ends; yield its name.

    A volume, since the engine may be on another machine.
    """
    template_repo(folder / "repo", held=HELD, also_held=HELD, curious=CURIOUS)

    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = _UID  # git refuses a repository of somebody else's
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "repo", "repo", filter=owned)
    with engine.volume() as volume:
        carrier = engine.client.containers.create(
            engine.agent_image, volumes={volume.name: {"bind": "/templates"}}, labels=LABELS
        )
        carrier.put_archive("/templates", packed.getvalue())
        carrier.remove(v=True)
        yield volume.name


def held(template: str = "held") -> dict[str, object]:
    """Return a configuration whose apply goes on until :meth:`Agent.let_go`."""
    source = {"repo": REPO, "version": "v1", "path": template}
    return snapshot(REPO, template_source=source, terraform_vars={})


class Agent:
    """An agent in a container."""

    def __init__(self, container: Container) -> None:
        self.container = container

    @property
    def log(self) -> str:
        return str(self.container.logs().decode(errors="replace"))

    async def says(self, pattern: str) -> str:
        """Wait for a line of its log."""

        async def found() -> str | None:
            match = re.search(pattern, self.log)
            return match.group(0) if match else None

        return await eventually(found, f"no {pattern!r} in the agent's log", lambda: self.log)

    def run(self, *argv: str) -> str:
        """Run a program beside it, as the same user; it must succeed."""
        code, said = self.container.exec_run(list(argv))
        assert code == 0, said
        return str(said.decode())

    def metric(self, series: str) -> float:
        """Return the value of one of its metrics."""
        code = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics')"
        shown = self.run("python", "-c", f"{code}.read().decode())")
        return float(shown.partition(f"{series} ")[2].split()[0])

    async def has_asked(self) -> None:
        """Wait until it has asked for work once, as it does at its start."""

        async def asked() -> bool | None:
            claims = self.metric('tendril_rpcs_total{result="ok",rpc="claim"}')
            return True if claims else None

        await eventually(asked, "it asked for nothing", lambda: self.log)

    async def counts_to(self, number: int) -> None:
        """Wait until a held apply has come to *number*, whatever is delivered."""

        async def reached() -> bool | None:
            code, said = self.container.exec_run(["cat", "/tmp/count"])
            return True if code == 0 and int(said or 0) >= number else None

        await eventually(reached, f"it did not count to {number}", lambda: self.log)

    def count(self) -> int:
        """Return how far a held apply has come."""
        return int(self.run("cat", "/tmp/count"))

    def let_go(self) -> None:
        """Let a held apply come to its end."""
        self.run("touch", "/tmp/go")

    async def stopped(self, *, timeout_s: int) -> int:
        """Stop it as ``docker stop`` does; return its exit code."""
        await anyio.to_thread.run_sync(lambda: self.container.stop(timeout=timeout_s))
        return exit_code_of(self.container)

    def kill(self) -> None:
        """Kill everything in it, and wait for its end."""
        self.container.kill("SIGKILL")
        self.container.wait()


@dataclass(frozen=True)
class Agents:
    """Starts agents of one cluster; all are gone when the test ends.

    :ivar templates: the volume of :func:`templates`
    """

    engine: Engine
    stage: Stage
    templates: str

    def environment(self, cluster: Registration) -> dict[str, str]:
        """Return what an agent of *cluster* must be told."""
        return {
            "TENDRIL_CLUSTER_ID": cluster.cluster_id,
            "TENDRIL_API_TOKEN": cluster.token,
            "SUPABASE_URL": self.stage.inner_url,
            "SUPABASE_KEY": self.stage.plane.anon_key,
            "TENDRIL_ALLOW_FILE_REPOS": "true",
            "TENDRIL_WORKSPACE_DIR": "/var/lib/tendril/workspaces",
        }

    @contextmanager
    def agent(
        self,
        cluster: Registration,
        *,
        state: str | None = None,
        options: dict[str, object] | None = None,
        **environment: str,
    ) -> Iterator[Agent]:
        """Run an agent until the block ends, locked down as docs/container.md says.

        :param state: name of the volume for its state; None is one that goes with it
        :param options: of the engine, over the usual ones
        """
        container = (
            DockerContainer(self.engine.agent_image)
            .with_network(self.stage.network)
            .with_envs(**{**self.environment(cluster), **environment})
            .with_tmpfs_mount("/tmp", _TMP)
            .with_volume_mapping(self.templates, "/templates")
            .with_kwargs(labels=LABELS, **{**LOCKED_DOWN, **(options or {})})
        )
        if state is not None:
            container.with_volume_mapping(state, "/var/lib/tendril", "rw")
        with container:
            yield Agent(container.get_wrapped_container())
