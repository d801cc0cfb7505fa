"""What the agent itself costs a provision: ``make bench B=overhead``; about four minutes.

From the commit of the claim to the commit of SUCCESS, by Postgres's own commit timestamps, minus
the same git and terraform commands by hand (``bench.overhead_hand``); a real agent and a real
Terraform on the template ``hello``. The unit is one bare HTTP call after a pause, since on a small
idle machine that alone takes tens of milliseconds. In turn, round after round: a first and a second
run of a repository by the agent, both by hand, and a bare call. Then twenty provisions that are
queued at once.

``ROUNDS=10 make bench B=overhead`` is a shorter run.
"""

import os
import random
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psycopg
from psycopg.rows import DictRow, dict_row

from bench.dispatch_planes import Cluster, agent, plane, register, template_repo
from bench.frame import Report
from bench.overhead_hand import Command, Noter, by_hand

_ROUNDS = int(os.environ.get("ROUNDS", "30"))
_PAUSE_S = (0.2, 0.8)
_QUEUED = 20
_LOOK_S = 0.02
_END_S = 120.0
_SQL = Path(__file__).with_name("sql")
_VARIABLES = {"lines": 5, "pause_seconds": 0}

_Connection = psycopg.Connection[DictRow]


@dataclass
class Samples:
    """Milliseconds of each round.

    :ivar parts: by name, of the second run
    """

    first: list[float] = field(default_factory=list)
    second: list[float] = field(default_factory=list)
    call: list[float] = field(default_factory=list)
    hand: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Bench:
    """What the rounds work with.

    :ivar noted: the commands of a first and of a second run of an agent in *noted_in*
    """

    admin: _Connection
    http: httpx.Client
    cluster: Cluster
    empty: Cluster
    folder: Path
    noted: tuple[Sequence[Command], Sequence[Command]]
    noted_in: Path
    samples: Samples = field(default_factory=Samples)

    def round(self, number: int) -> None:
        """Take one sample of everything."""
        samples, again = self.samples, self.folder / "by-hand"
        repo = _copied(self.folder / "repo", self.folder / f"repo-{number}")
        first, second = (self._run(repo) for _ in range(2))
        _pause()
        first_s = by_hand(self.noted[0], self.noted_in, self.folder / f"by-hand-{number}")
        _pause()
        second_s = by_hand(self.noted[1], self.noted_in, again)
        samples.call.append(self._call_ms())
        samples.first.append(_own_ms(first, first_s))
        samples.second.append(_own_ms(second, second_s))
        samples.hand.append(sum(second_s.values()) * 1000)
        for name, seconds in second_s.items():
            samples.parts[f"by hand: {name}"].append(seconds * 1000)
        for step in second["steps"]:
            name = f"terraform {step['name']}"
            own_ms = (step["duration_s"] - second_s[name]) * 1000
            samples.parts[f"starting, reading and ending {name}"].append(own_ms)
        last_ms = (second["ended_at"] - second["logged_at"]) * 1000
        samples.parts["last line of log stored → SUCCESS"].append(last_ms)

    def _run(self, repo: str) -> DictRow:
        _pause()
        return _ended(self.admin, _queued(self.admin, self.cluster, repo))

    def _call_ms(self) -> float:
        """One call that changes nothing, by nothing but an HTTP client."""
        who = {"p_cluster_id": self.empty.cluster_id, "p_token_hash": self.empty.token_hash}
        _pause()
        started_at = time.perf_counter()
        self.http.post("/rest/v1/rpc/fetch_next_provision", json=who).raise_for_status()
        return (time.perf_counter() - started_at) * 1000


def main() -> None:
    """Print the table and write the JSON file."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        on = stack.enter_context(plane(folder / "plane"))
        admin = stack.enter_context(
            psycopg.connect(on.database_url, autocommit=True, row_factory=dict_row)
        )
        headers = {"apikey": on.anon_key}
        repo = template_repo(folder / "repo")
        noted_in = folder / "noted"
        bench = Bench(
            admin=admin,
            http=stack.enter_context(httpx.Client(base_url=on.url, headers=headers)),
            cluster=register(on, "measured"),
            empty=register(on, "empty"),
            folder=folder,
            noted=_noted(admin, register(on, "noted"), repo, noted_in),
            noted_in=noted_in,
        )
        by_hand(bench.noted[0], noted_in, folder / "by-hand")
        with _agent(bench.cluster, folder / "agent"):
            _ended(admin, _queued(admin, bench.cluster, repo))
            for number in range(_ROUNDS):
                bench.round(number)
        queue_s = {
            capacity: _queue_s(admin, register(on, f"queue {capacity}"), repo, folder, capacity)
            for capacity in (1, 4)
        }
        _report(bench.samples, queue_s)


def _noted(
    admin: _Connection, cluster: Cluster, repo: str, folder: Path
) -> tuple[Sequence[Command], Sequence[Command]]:
    """Let an agent run twice, and return the commands of each run."""
    noter = Noter(folder.with_name("noter"))
    runs: list[Sequence[Command]] = []
    with agent(cluster, folder, ready="READY", **noter.settings):
        for _ in range(2):
            noter.forget()
            _ended(admin, _queued(admin, cluster, repo))
            runs.append(noter.noted())
    return runs[0], runs[1]


def _queue_s(admin: _Connection, cluster: Cluster, repo: str, folder: Path, capacity: int) -> float:
    """Queue provisions at once; return the seconds from the first claim to the last end."""
    with _agent(cluster, folder / f"agent-{capacity}", TENDRIL_CAPACITY=str(capacity)):
        _ended(admin, _queued(admin, cluster, repo))
        _pause()
        with admin.transaction():
            queued = [_queued(admin, cluster, repo) for _ in range(_QUEUED)]
        ended = [_ended(admin, provision) for provision in queued]
    return float(max(row["ended_at"] for row in ended) - min(row["claimed_at"] for row in ended))


@contextmanager
def _agent(cluster: Cluster, folder: Path, **settings: str) -> Iterator[None]:
    terraform = shutil.which("terraform")
    if terraform is None:
        raise SystemExit("terraform is not on the PATH")
    with agent(cluster, folder, ready="READY", TENDRIL_TERRAFORM=terraform, **settings):
        yield


def _queued(admin: _Connection, cluster: Cluster, repo: str) -> str:
    snapshot = {
        "template_source": {"repo": repo, "version": "main"},
        "terraform_vars": _VARIABLES,
    }
    arguments = {"cluster": cluster.cluster_id, "snapshot": orjson.dumps(snapshot).decode()}
    row = admin.execute(_sql("insert"), arguments).fetchone()
    assert row is not None
    return str(row["id"])


def _ended(admin: _Connection, provision: str) -> DictRow:
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        row = admin.execute(_sql("ended"), {"provision": provision}).fetchone()
        if row is None:
            time.sleep(_LOOK_S)
        elif row["status"] == "SUCCESS":
            return row
        else:
            raise SystemExit(f"{row['status']}: {row['error_message']}")
    raise SystemExit(f"provision {provision} has not ended within {_END_S:g} s")


def _own_ms(row: DictRow, hand_s: Mapping[str, float]) -> float:
    return float(row["ended_at"] - row["claimed_at"] - sum(hand_s.values())) * 1000


def _report(samples: Samples, queue_s: Mapping[int, float]) -> None:
    report = Report("overhead", f"The agent's own time in a provision, on {os.cpu_count()} CPUs")
    report.add_samples("first_ms", samples.first, "first run of a repository", "ms")
    report.add_samples("second_ms", samples.second, "second run", "ms")
    report.add_samples("rpc_unit_ms", samples.call, "one bare call", "ms")
    in_calls = statistics.median(samples.second) / statistics.median(samples.call)
    report.add("second_in_rpcs", in_calls, "second run, in bare calls", "x")
    hand_ms = statistics.median(samples.hand)
    report.add("hand_ms", hand_ms, "the commands of a second run by hand", "ms")
    for number, (what, values) in enumerate(samples.parts.items()):
        report.add(f"part_{number}_ms", statistics.median(values), f"of it: {what}", "ms")
    for capacity, seconds in queue_s.items():
        what = f"{_QUEUED} queued provisions, {capacity} at once"
        report.add(f"queue{_QUEUED}_c{capacity}_s", seconds, what, "s")
    report.add("load", os.getloadavg()[0], "load average of the last minute", "")
    report.finish()


def _copied(repo: Path, to: Path) -> str:
    shutil.copytree(repo, to)
    return f"file://{to}"


def _sql(name: str) -> bytes:
    return (_SQL / f"overhead_{name}.sql").read_bytes()


def _pause() -> None:
    time.sleep(random.uniform(*_PAUSE_S))


if __name__ == "__main__":
    main()
