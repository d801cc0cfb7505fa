"""What ``bench.dispatch`` runs: embedded planes, agents, and a PgQueuer worker, each a process.

Terraform is a script that succeeds at once: what it does is not measured, and a sample must have
ended before the next one.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import orjson
import psycopg

from tendril_rt import resources
from tendril_rt.control.owner import owner

_TENDRIL = [sys.executable, "-m", "tendril_rt.cli.main"]
_TERRAFORM = """#!/bin/sh
case "$1" in version) echo "Terraform v1.11.4";; output) echo '{}';; esac
"""
_READY_S = 60.0


@dataclass(frozen=True)
class Plane:
    """A running embedded plane."""

    url: str
    anon_key: str
    user_token: str
    database_url: str


@dataclass(frozen=True)
class Cluster:
    """A cluster of its own for one series."""

    plane: Plane
    cluster_id: str
    token: str

    @property
    def token_hash(self) -> str:
        return hashlib.sha256(self.token.encode()).hexdigest()


@contextmanager
def plane(folder: Path, *options: str) -> Iterator[Plane]:
    """Run ``tendril dev`` with commit timestamps and call counts, until the block ends."""
    with _dev(folder) as started, psycopg.connect(started.database_url, autocommit=True) as admin:
        admin.execute("alter system set track_commit_timestamp = on")
        admin.execute("alter system set track_functions = 'pl'")
    with _dev(folder, *options) as running:
        yield running


@contextmanager
def _dev(folder: Path, *options: str) -> Iterator[Plane]:
    process = subprocess.Popen(
        [*_TENDRIL, "dev", "--json", "--data", str(folder), *options], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with _ended(process), process.stdout:
        said = orjson.loads(process.stdout.readline() or b"null")
        if said is None:
            raise SystemExit("tendril dev did not start")
        yield Plane(said["url"], said["anon_key"], said["user_token"], said["database_url"])


def register(on: Plane, name: str) -> Cluster:
    """Make a cluster without a limit that would matter."""

    async def call() -> Cluster:
        async with owner(on.url, on.anon_key, on.user_token) as user:
            made = await user.register_cluster(name, max_concurrency=50)
        return Cluster(on, made.cluster_id, made.token)

    return anyio.run(call)


@contextmanager
def agent(cluster: Cluster, folder: Path, *, ready: str, **settings: str) -> Iterator[None]:
    """Run ``tendril run`` until the block ends; begins when its log says *ready*."""
    folder.mkdir()
    terraform = folder / "terraform"
    terraform.write_text(_TERRAFORM)
    terraform.chmod(0o700)
    environment = {
        **os.environ,
        "TENDRIL_CLUSTER_ID": cluster.cluster_id,
        "TENDRIL_API_TOKEN": cluster.token,
        "SUPABASE_URL": cluster.plane.url,
        "SUPABASE_KEY": cluster.plane.anon_key,
        "TENDRIL_STATE_DIR": str(folder / "state"),
        "TENDRIL_WORKSPACE_DIR": str(folder / "workspaces"),
        "TENDRIL_TERRAFORM": str(terraform),
        "TENDRIL_ALLOW_FILE_REPOS": "true",
        "TENDRIL_CAPACITY": "50",  # no sample waits for a slot
        **settings,
    }
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        process = subprocess.Popen([*_TENDRIL, "run"], env=environment, stdout=log, stderr=log)
        stack.enter_context(_ended(process))
        _wait_for(folder / "log", ready)
        yield


@contextmanager
def pgqueuer_worker(url: str) -> Iterator["subprocess.Popen[str]"]:
    """Run ``bench.dispatch_pgqueuer``; its output has a line per picked job."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.dispatch_pgqueuer", url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with _ended(process), process.stdout:
        if process.stdout.readline() != "ready\n":
            raise SystemExit("the PgQueuer worker did not start")
        yield process


def template_repo(folder: Path) -> str:
    """Make a repository with the template ``hello``; return its address."""
    folder.mkdir()
    for file in (resources.templates() / "hello").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "."),
        ("-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "hello"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return f"file://{folder}"


@contextmanager
def _ended(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> Iterator[None]:
    """Stop the process at the end of the block: what still runs is interrupted."""
    try:
        yield
    finally:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        else:
            process.kill()
            process.wait()


def _wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + _READY_S
    while text not in log.read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"{text!r} was not said within {_READY_S:g} s:\n{log.read_text()}")
        time.sleep(0.1)
