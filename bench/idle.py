"""What an idle agent costs: ``make bench B=idle``.

One agent on an embedded control plane, beside two floors measured over the same seconds: a process
that only imported the same clients, and a bare httpx poller that makes the same calls at the same
rate. Then one provision with much output, for memory under load. Reads /proc, so Linux only.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import orjson
import simplejson

from bench.frame import Report
from tendril_rt.control.owner import Owner, Registration, owner
from tendril_rt.model import ProvisionId

_IDLE_S = 60.0
_SETTLE_S = 8.0  # past the join of Realtime, its sweeps, and a first poll
_STARTS = 5
_LOAD_LINES = 20_000
_LOAD_TIMEOUT_S = 120.0
_TENDRIL = (sys.executable, "-m", "tendril_rt.cli.main")

#: The clients that an agent cannot do without, imported and left alone.
_IMPORTS = """
import time
import anyio, httpx, orjson, postgrest, pydantic, realtime, simplejson
print("ready", flush=True)
time.sleep(3600)
"""
#: The same calls at the same rate, over one kept connection: 12 polls and 2 heartbeats a minute.
_POLLER = """
import asyncio, hashlib, os, uuid
import httpx
who = {
    "p_cluster_id": os.environ["TENDRIL_CLUSTER_ID"],
    "p_token_hash": hashlib.sha256(os.environ["TENDRIL_API_TOKEN"].encode()).hexdigest(),
}
agent = str(uuid.uuid4())
beat = {"id": agent, "hostname": "poller", "version": "0", "capacity": 1, "state": "ONLINE",
        "leases": []}
async def main():
    key = os.environ["SUPABASE_KEY"]
    async with httpx.AsyncClient(
        base_url=os.environ["SUPABASE_URL"] + "/rest/v1/rpc/",
        headers={"apikey": key, "authorization": "Bearer " + key},
        limits=httpx.Limits(keepalive_expiry=60),
    ) as http:
        async def every(seconds, function, arguments):
            while True:
                (await http.post(function, json={**who, **arguments()})).raise_for_status().json()
                await asyncio.sleep(seconds)
        print("ready", flush=True)
        await asyncio.gather(
            every(30, "agent_heartbeat", lambda: {"p_agent": beat}),
            every(5, "fetch_next_provision",
                  lambda: {"p_agent_id": agent, "p_claim_id": str(uuid.uuid4())}),
        )
asyncio.run(main())
"""


@dataclass(frozen=True)
class Plane:
    """What ``tendril dev --json`` printed, as far as it is needed."""

    url: str
    anon_key: str
    user_token: str


@contextmanager
def _running(argv: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as errors:
        process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: subprocess.Popen[bytes], log: Path) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{process.args!r} said nothing:\n{log.read_text()}")
    return line


def _memory_mb(pid: int, what: str) -> float:
    """Return VmRSS (now) or VmHWM (the most ever) in MB of 1,000,000 bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{what}:")]
    return int(kilobytes) * 1024 / 1e6


def _cpu_s(pid: int) -> float:
    """Return the CPU time of all threads, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def _calls(port: int) -> float:
    """Return how many calls to the control plane the agent counts."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("tendril_rpcs_"))


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
            return bool(json.load(answer)["ok"])
    except OSError:
        return False


def _start_ms(env: dict[str, str], folder: Path, port: int) -> float:
    """Return the time from the command to ``/readyz``."""
    started_at = time.perf_counter()
    log = folder / "start.log"
    with _running([*_TENDRIL, "run"], env, log):
        _await_ready(port, log)
        return (time.perf_counter() - started_at) * 1000


def _imports_ms(env: dict[str, str], folder: Path) -> float:
    started_at = time.perf_counter()
    log = folder / "imports.log"
    with _running([sys.executable, "-c", _IMPORTS], env, log) as process:
        _first_line(process, log)
        return (time.perf_counter() - started_at) * 1000


def _await_ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while not _ready(port):
        if time.monotonic() > deadline:
            raise SystemExit(f"the agent did not get ready:\n{log.read_text()}")
        time.sleep(0.005)


async def _register(plane: Plane) -> Registration:
    async with owner(plane.url, plane.anon_key, plane.user_token) as user:
        return await user.register_cluster("bench")


async def _load(plane: Plane, cluster: Registration, repo: str) -> None:
    """Run one provision with much output to its end."""
    snapshot = {
        "template_source": {"repo": repo, "version": "main", "path": "loud"},
        "terraform_vars": {},
    }
    async with owner(plane.url, plane.anon_key, plane.user_token) as user:
        provision_id = await user.create_provision(
            cluster.cluster_id, simplejson.loads(orjson.dumps(snapshot))
        )
        with anyio.fail_after(_LOAD_TIMEOUT_S):
            await _ended(user, provision_id)


async def _ended(user: Owner, provision_id: ProvisionId) -> None:
    while True:
        state = await user.provision(provision_id)
        if state is not None and state.status.is_terminal:
            if state.status.value != "SUCCESS":
                raise SystemExit(f"the provision ended {state}")
            return
        await anyio.sleep(0.1)


def _loud_repo(folder: Path) -> str:
    """Make a repository whose template prints :data:`_LOAD_LINES` lines of 100 characters."""
    (folder / "loud").mkdir(parents=True)
    line = "x" * 99
    (folder / "loud" / "main.tf").write_text(
        f"""resource "terraform_data" "loud" {{
  provisioner "local-exec" {{ command = "yes {line} | head -n {_LOAD_LINES}" }}
}}
"""
    )
    identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for arguments in (
        ("init", "--quiet", "--initial-branch", "main"),
        ("add", "--all"),
        (*identity, "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "loud"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder.as_uri()


def _measure(report: Report, plane: Plane, folder: Path) -> None:
    cluster = anyio.run(_register, plane)
    port = _free_port()
    env = {
        **os.environ,
        "TENDRIL_CLUSTER_ID": cluster.cluster_id,
        "TENDRIL_API_TOKEN": cluster.token,
        "SUPABASE_URL": plane.url,
        "SUPABASE_KEY": plane.anon_key,
        "TENDRIL_STATE_DIR": str(folder / "state"),
        "TENDRIL_WORKSPACE_DIR": str(folder / "workspaces"),
        "TENDRIL_ALLOW_FILE_REPOS": "true",
        "TENDRIL_HEALTH_PORT": str(port),
    }
    starts, floors = [], []
    for _ in range(_STARTS):
        starts.append(_start_ms(env, folder, port))
        floors.append(_imports_ms(env, folder))
    report.add_samples("start_ms", starts, "start: command to /readyz", "ms")
    report.add_samples("floor_start_ms", floors, "start: python and the same imports", "ms")
    logs = {name: folder / f"{name}.log" for name in ("agent", "imports", "poller")}
    with ExitStack() as stack:
        imports, poller = (
            stack.enter_context(_running([sys.executable, "-c", code], env, logs[name]))
            for name, code in (("imports", _IMPORTS), ("poller", _POLLER))
        )
        agent = stack.enter_context(_running([*_TENDRIL, "run"], env, logs["agent"]))
        _first_line(imports, logs["imports"])
        _first_line(poller, logs["poller"])
        _await_ready(port, logs["agent"])
        time.sleep(_SETTLE_S)
        _idle(report, agent.pid, imports.pid, poller.pid, port)
        anyio.run(_load, plane, cluster, _loud_repo(folder / "templates"))
        report.add("load_rss_mb", _memory_mb(agent.pid, "VmHWM"), "resident, under load", "MB")


def _idle(report: Report, agent: int, imports: int, poller: int, port: int) -> None:
    calls = _calls(port)
    cpu_s = {pid: _cpu_s(pid) for pid in (agent, poller)}
    began_at = time.monotonic()
    time.sleep(_IDLE_S)
    took_s = time.monotonic() - began_at
    spent_s = {pid: _cpu_s(pid) - before for pid, before in cpu_s.items()}
    calls = _calls(port) - calls
    report.add("idle_rss_mb", _memory_mb(agent, "VmRSS"), "resident, idle", "MB")
    report.add("floor_rss_mb", _memory_mb(imports, "VmRSS"), "resident, imports alone", "MB")
    report.add("poller_rss_mb", _memory_mb(poller, "VmRSS"), "resident, bare poller", "MB")
    report.add("idle_cpu_percent", 100 * spent_s[agent] / took_s, "CPU, idle", "%")
    report.add("poller_cpu_percent", 100 * spent_s[poller] / took_s, "CPU, bare poller", "%")
    report.add("idle_cpu_ms", 1000 * spent_s[agent], f"CPU, idle, in {_IDLE_S:g} s", "ms")
    report.add("poller_cpu_ms", 1000 * spent_s[poller], f"CPU, poller, in {_IDLE_S:g} s", "ms")
    ratio = spent_s[agent] / spent_s[poller]
    report.add("cpu_ratio_to_poller", ratio, "CPU, agent to poller", "x")
    report.add("rpcs_per_minute", calls * 60 / took_s, "calls of the agent", "per minute")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Print the table and write the JSON file."""
    report = Report("idle", f"an idle agent over {_IDLE_S:g} s, on {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "dev.log"
        argv = [*_TENDRIL, "dev", "--json", "--data", str(folder / "plane")]
        with _running(argv, dict(os.environ), log) as dev:
            answer = orjson.loads(_first_line(dev, log))
            plane = Plane(answer["url"], answer["anon_key"], answer["user_token"])
            _measure(report, plane, folder)
    report.finish()


if __name__ == "__main__":
    main()
