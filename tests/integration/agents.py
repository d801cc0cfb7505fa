"""Agents as processes of their own, template repositories, and patience with a deadline."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from tendril_rt import resources
from tendril_rt.control.owner import LogRow, Owner, ProvisionState, Registration
from tendril_rt.model import ProvisionId, StreamType
from tendril_rt.runner.launched import COOKIE
from tests.conftest import TENDRIL, RunningPlane

T = TypeVar("T")

PATIENCE_S = 40.0


@dataclass
class Agent:
    """A running ``tendril run``."""

    process: subprocess.Popen[bytes]
    log_file: Path
    state_dir: Path
    workspace_dir: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for the end."""

        async def ended() -> int | None:
            return self.process.poll()

        return await eventually(ended, f"the agent did not end:\n{self.log}")

    async def says(self, pattern: str) -> str:
        """Wait for a line of its log."""

        async def found() -> str | None:
            match = re.search(pattern, self.log)
            return match.group(0) if match else None

        return await eventually(found, f"no {pattern!r} in the agent's log", lambda: self.log)


@dataclass
class Fleet:
    """Starts agents of one cluster; all are gone when the test ends.

    :ivar program: what an agent is started with, before ``run``
    """

    plane: RunningPlane
    cluster: Registration
    folder: Path
    program: Sequence[str] = TENDRIL
    prefix: Sequence[str] = ()  # of the command

    def environment(self, name: str) -> dict[str, str]:
        return {
            **os.environ,
            "TENDRIL_CLUSTER_ID": self.cluster.cluster_id,
            "TENDRIL_API_TOKEN": self.cluster.token,
            "SUPABASE_URL": self.plane.url,
            "SUPABASE_KEY": self.plane.anon_key,
            "TENDRIL_STATE_DIR": str(self.folder / name / "state"),
            "TENDRIL_WORKSPACE_DIR": str(self.folder / name / "workspaces"),
            "TENDRIL_ALLOW_FILE_REPOS": "true",
        }

    @contextmanager
    def agent(self, name: str = "agent", *options: str, **extra: str) -> Iterator[Agent]:
        """Run an agent until the block ends; *extra* overrides its environment."""
        home = self.folder / name
        home.mkdir(exist_ok=True)
        env = {**self.environment(name), **extra}
        with (home / "log").open("wb") as log:
            argv = [*self.prefix, *self.program, "run", *options]
            process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
        try:
            yield Agent(process, home / "log", home / "state", home / "workspaces")
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def killed(agent: Agent) -> None:
    """Kill the agent alone, and wait for its end."""
    agent.signal(signal.SIGKILL)
    agent.process.wait()


def pids_of_steps(agent: Agent) -> list[int]:
    """Return the processes that steps of this agent's provisions started."""
    marked = f"{COOKIE}={agent.workspace_dir}/".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if marked in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


async def eventually(
    look: Callable[[], Awaitable[T | None]],
    otherwise: str,
    more: Callable[[], str] = lambda: "",
    *,
    within_s: float = PATIENCE_S,
) -> T:
    """Return what *look* finds as soon as it finds something; fail after *within_s* seconds."""
    deadline = time.monotonic() + within_s
    while True:
        found = await look()
        if found is not None:
            return found
        assert time.monotonic() < deadline, f"{otherwise}\n{more()}"
        await anyio.sleep(0.02)


async def ended(
    user: Owner, provision_id: ProvisionId, *, within_s: float = PATIENCE_S
) -> ProvisionState:
    """Wait until a provision has ended."""

    async def look() -> ProvisionState | None:
        state = await user.provision(provision_id)
        return state if state is not None and state.status.is_terminal else None

    return await eventually(look, f"provision {provision_id} did not end", within_s=within_s)


async def log_text(
    user: Owner, provision_id: ProvisionId, *streams: StreamType, attempt: int = 1
) -> str:
    """Return the stored log of some streams (default: all), after checking that it has no hole."""
    rows: list[LogRow] = []
    while page := await user.logs(
        provision_id, attempt=attempt, after_seq=rows[-1].seq if rows else -1
    ):
        rows += page
    assert [row.seq for row in rows] == list(range(len(rows)))
    return "".join(row.text for row in rows if not streams or row.stream in streams)


def snapshot(repo: str, **changes: object) -> dict[str, object]:
    """A configuration of the template in *repo*; *changes* replace its top-level keys."""
    return {
        "template_source": {"repo": repo, "version": "v1", "path": "hello"},
        "terraform_vars": {"name": "test", "lines": 3, "pause_seconds": 0},
        **changes,
    }


def template_repo(folder: Path, **templates: str) -> str:
    """Make a git repository with ``hello`` and *templates* (name to main.tf), tagged v1."""
    for source in (resources.templates() / "hello").iterdir():
        target = folder / "hello" / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    for name, text in templates.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "main.tf").write_text(text)
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    for arguments in (
        ("init", "--quiet"),
        ("add", "--all"),
        (*identity, "commit", "--quiet", "--message", "templates"),
        ("tag", "v1"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder.as_uri()


def recording_terraform(folder: Path) -> tuple[str, Path]:
    """Return a ``terraform`` that also keeps what it printed, and the file it keeps it in."""
    real = subprocess.run(
        ["sh", "-c", "command -v terraform || command -v tofu"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    printed = folder / "printed"
    script = folder / "terraform"
    script.write_text(
        f"""#!{sys.executable}
import subprocess, sys
if sys.argv[1] in ("version", "output"):
    sys.exit(subprocess.call([{real!r}, *sys.argv[1:]]))
done = subprocess.Popen([{real!r}, *sys.argv[1:]], stdout=subprocess.PIPE)
with open({str(printed)!r}, "ab") as kept:
    for line in done.stdout:
        kept.write(line)
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
sys.exit(done.wait())
"""
    )
    script.chmod(0o755)
    return str(script), printed
