"""How soon a queued provision is claimed: ``make bench B=dispatch``.

From the commit of the INSERT to the commit of the claim, both by Postgres's own commit timestamps,
with real agents on embedded planes; about ten minutes, mostly pauses of random length, since
provisions come out of silence. In turn, round after round:

- *push*: an agent as it comes, on a plane that delivers changes at once;
- *floor*: after the same kind of pause a bare HTTP call (an empty claim) and a claim by psycopg;
- every third round also: *poll* (an agent without Realtime, 5 s), *paced* (a plane that holds
  postgres_changes as Supabase's poller does, 0.5 s), *changes alone* (there, without broadcasts),
  and PgQueuer's own worker, which listens on a connection to the database.

``ROUNDS=30 make bench B=dispatch`` is a shorter run.
"""

import os
import random
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import quote, urlsplit

import anyio
import httpx
import orjson
import psycopg
from psycopg.rows import DictRow, dict_row
from websockets.sync.client import connect
from websockets.sync.connection import Connection as Socket

from bench.dispatch_pgqueuer import ENTRYPOINT, install
from bench.dispatch_planes import (
    Cluster,
    Plane,
    agent,
    pgqueuer_worker,
    plane,
    register,
    template_repo,
)
from bench.frame import Report

_ROUNDS = int(os.environ.get("ROUNDS", "300"))
_SELDOM = 3  # every how many rounds the other series have their turn
_PAUSE_S = (0.2, 0.8)
_SETTLE_S = 8.0  # more than a poll's interval
_IDLE_S = 60.0
_SUPABASE_PACING_S = "0.5"
_SQL = Path(__file__).with_name("sql")
_AGENT_ID = str(uuid.uuid4())

_Connection = psycopg.Connection[DictRow]


@dataclass
class Samples:
    """What was measured so far.

    :ivar sent: by series, the transaction of each INSERT by provision
    :ivar call_ms: of the bare HTTP call; *claim_ms* of the claim by psycopg; *floor_ms* of both
    :ivar heard_ms: from the INSERT's commit to the broadcast at a bare subscriber
    """

    sent: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    call_ms: list[float] = field(default_factory=list)
    claim_ms: list[float] = field(default_factory=list)
    floor_ms: list[float] = field(default_factory=list)
    heard_ms: list[float] = field(default_factory=list)
    queued_at: dict[str, float] = field(default_factory=dict)  # of PgQueuer's jobs


@dataclass
class Bench:
    """What the rounds work with."""

    admin: Mapping[str, _Connection]
    claimer: _Connection
    http: httpx.Client
    clusters: Mapping[str, Cluster]
    snapshot: str
    rival: _Connection
    subscriber: Socket
    samples: Samples = field(default_factory=Samples)

    def round(self, number: int) -> None:
        """Take one sample of every series whose turn it is."""
        self._push()
        self._floor()
        if number % _SELDOM == 0:
            for series in ("poll", "paced", "changes alone"):
                _pause()
                self._insert(series)
            self._pgqueuer()

    def _insert(self, series: str) -> tuple[str, str]:
        cluster = self.clusters[series]
        row = _one(
            self.admin[cluster.plane.database_url],
            "insert",
            {"cluster": cluster.cluster_id, "snapshot": self.snapshot},
        )
        self.samples.sent[series][row["id"]] = row["insert_xid"]
        return row["id"], row["insert_xid"]

    def _push(self) -> None:
        _pause()
        _forget(self.subscriber)
        _, xid = self._insert("push")
        while orjson.loads(self.subscriber.recv(10))["payload"].get("event") != "wakeup":
            pass
        heard_at = time.time()
        committed = _one(self._push_plane, "committed", {"xid": xid})["at"]
        self.samples.heard_ms.append((heard_at - committed) * 1000)

    @property
    def _push_plane(self) -> _Connection:
        return self.admin[self.clusters["push"].plane.database_url]

    def _floor(self) -> None:
        """What nobody can save who is not on the database: one call, one claim."""
        empty, queue = self.clusters["empty"], self.clusters["floor"]
        _one(self._push_plane, "insert", {"cluster": queue.cluster_id, "snapshot": self.snapshot})
        _pause()
        who = {"p_cluster_id": empty.cluster_id, "p_token_hash": empty.token_hash}
        started_at = time.perf_counter()
        self.http.post("/rest/v1/rpc/fetch_next_provision", json=who).raise_for_status()
        called_at = time.perf_counter()
        arguments = {
            "cluster": queue.cluster_id,
            "token_hash": queue.token_hash,
            "agent": _AGENT_ID,
        }
        claimed = _one(self.claimer, "claim", arguments)
        claimed_at = time.perf_counter()
        self.samples.call_ms.append((called_at - started_at) * 1000)
        self.samples.claim_ms.append((claimed_at - called_at) * 1000)
        self.samples.floor_ms.append((claimed_at - started_at) * 1000)
        done = {**arguments, "provision": claimed["id"], "attempt": claimed["attempt"]}
        _one(self.claimer, "finish", done)

    def _pgqueuer(self) -> None:
        _pause()
        job = _one(self.rival, "enqueue", {"entrypoint": ENTRYPOINT})
        self.samples.queued_at[job["id"]] = time.time()


def main() -> None:
    """Print the table and write the JSON file."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        fast = stack.enter_context(plane(folder / "fast"))
        paced = stack.enter_context(
            plane(folder / "paced", "--changes-interval-s", _SUPABASE_PACING_S)
        )
        clusters = {
            **{name: register(fast, name) for name in ("push", "poll", "empty", "floor")},
            **{name: register(paced, name) for name in ("paced", "changes alone")},
        }
        admin = {
            on.database_url: stack.enter_context(_connected(on.database_url))
            for on in (fast, paced)
        }
        alone = _sql("changes_alone").replace("{cluster}", clusters["changes alone"].cluster_id)
        admin[paced.database_url].execute(alone.encode())
        admin[fast.database_url].execute("create database bench_pgqueuer")
        rival_url = _database(fast, "bench_pgqueuer")
        anyio.run(install, rival_url)
        claimer = stack.enter_context(_connected(fast.database_url))
        claimer.execute("set role anon")
        worker = stack.enter_context(pgqueuer_worker(rival_url))
        bench = Bench(
            admin=admin,
            claimer=claimer,
            http=stack.enter_context(
                httpx.Client(base_url=fast.url, headers={"apikey": fast.anon_key})
            ),
            clusters=clusters,
            snapshot=_snapshot(template_repo(folder / "templates")),
            rival=stack.enter_context(_connected(rival_url)),
            subscriber=stack.enter_context(_subscribed(clusters["push"], admin)),
        )
        with ExitStack() as others:
            agents = folder / "agents"
            agents.mkdir()
            stack.enter_context(agent(clusters["push"], agents / "push", ready="READY"))
            for name, settings in _AGENTS.items():
                ready = "online" if "TENDRIL_REALTIME" in settings else "READY"
                others.enter_context(agent(clusters[name], agents / name, ready=ready, **settings))
            time.sleep(_SETTLE_S)
            for number in range(_ROUNDS):
                bench.round(number)
            time.sleep(_SETTLE_S)
        calls = _idle_calls(admin[fast.database_url])
        worker.terminate()
        assert worker.stdout is not None
        picked_at = dict(line.split() for line in worker.stdout)
        _report(bench, picked_at, calls)


_AGENTS: Mapping[str, Mapping[str, str]] = {
    "poll": {"TENDRIL_REALTIME": "false"},
    "paced": {},
    "changes alone": {},
}


def _report(bench: Bench, picked_at: Mapping[str, str], calls: int) -> None:
    samples = bench.samples
    claimed = {name: _latencies(bench, name) for name in samples.sent}
    push, floor = claimed["push"], samples.floor_ms
    report = Report("dispatch", f"INSERT committed → claim committed, on {os.cpu_count()} CPUs")
    report.add("push_p50_ms", statistics.median(push), f"push, median of {len(push)}", "ms")
    report.add("push_p99_ms", _p99(push), "push, 99 of 100 within", "ms")
    report.add("floor_p50_ms", statistics.median(floor), "floor: bare call + claim, median", "ms")
    report.add("floor_p99_ms", _p99(floor), "floor, 99 of 100 within", "ms")
    report.add(
        "ratio_p50", statistics.median(push) / statistics.median(floor), "push to floor", "x"
    )
    report.add("ratio_p99", _p99(push) / _p99(floor), "push to floor, 99 of 100", "x")
    for key, name in (
        ("poll", "poll"),
        ("supabase_pacing", "paced"),
        ("changes_alone", "changes alone"),
    ):
        report.add(f"{key}_p50_ms", statistics.median(claimed[name]), f"{name}, median", "ms")
        report.add(f"{key}_p99_ms", _p99(claimed[name]), f"{name}, 99 of 100 within", "ms")
    rival = [
        (float(picked_at[job]) - at) * 1000
        for job, at in samples.queued_at.items()
        if job in picked_at
    ]
    report.add("pgqueuer_p50_ms", statistics.median(rival), "PgQueuer, median", "ms")
    report.add("pgqueuer_p99_ms", _p99(rival), "PgQueuer, 99 of 100 within", "ms")
    report.add(
        "poll_to_push",
        statistics.median(claimed["poll"]) / statistics.median(push),
        "polling alone to push, medians",
        "x",
    )
    heard, called = statistics.median(samples.heard_ms), statistics.median(samples.call_ms)
    claim = statistics.median(samples.claim_ms)
    report.add("heard_p50_ms", heard, "of push: commit → broadcast at a bare subscriber", "ms")
    report.add("call_p50_ms", called, "of push: one bare HTTP call", "ms")
    report.add("claim_p50_ms", claim, "of push: the claim in Postgres", "ms")
    own = statistics.median(push) - heard - called - claim
    report.add("agent_p50_ms", own, "of push: what is left for the agent itself", "ms")
    report.add("calls_per_idle_minute", calls, "calls by an idle agent in a minute", "")
    lost = sum(len(sent) - len(claimed[name]) for name, sent in samples.sent.items())
    report.add("lost", lost, "inserts never claimed", "")
    report.finish()


def _latencies(bench: Bench, series: str) -> list[float]:
    cluster = bench.clusters[series]
    admin = bench.admin[cluster.plane.database_url]
    rows = admin.execute(_sql("claimed").encode(), {"cluster": cluster.cluster_id}).fetchall()
    claimed = {row["provision_id"]: row["at"] for row in rows}
    return [
        (claimed[provision] - _one(admin, "committed", {"xid": xid})["at"]) * 1000
        for provision, xid in bench.samples.sent[series].items()
        if provision in claimed
    ]


def _idle_calls(admin: _Connection) -> int:
    """Count what the one agent that is left calls in a minute."""
    before = _one(admin, "calls", {})["calls"]
    time.sleep(_IDLE_S)
    return cast("int", _one(admin, "calls", {})["calls"]) - cast("int", before)


def _subscribed(cluster: Cluster, admin: Mapping[str, _Connection]) -> Socket:
    """Join the cluster's private topic as an agent does, with nothing of ours in between."""
    who = {"cluster": cluster.cluster_id, "token_hash": cluster.token_hash}
    token = _one(admin[cluster.plane.database_url], "token", who)["token"]
    key = quote(cluster.plane.anon_key)
    address = cluster.plane.url.replace("http", "ws", 1)
    socket = connect(f"{address}/realtime/v1/websocket?apikey={key}&vsn=1.0.0")
    config = {"broadcast": {"replication_ready": True}, "private": True}
    join = {
        "topic": f"realtime:cluster:{cluster.cluster_id}",
        "event": "phx_join",
        "payload": {"config": config, "access_token": token},
        "ref": "1",
        "join_ref": "1",
    }
    socket.send(orjson.dumps(join).decode())
    while orjson.loads(socket.recv(10))["event"] != "system":
        pass
    return socket


def _forget(socket: Socket) -> None:
    """Drop what came so far; keep the server from taking us for dead."""
    socket.send('{"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "2"}')
    while orjson.loads(socket.recv(10))["topic"] != "phoenix":
        pass


def _snapshot(repo: str) -> str:
    return orjson.dumps({"template_source": {"repo": repo, "version": "main"}}).decode()


def _database(on: Plane, name: str) -> str:
    return urlsplit(on.database_url)._replace(path=f"/{name}").geturl()


def _connected(url: str) -> _Connection:
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


def _one(connection: _Connection, name: str, arguments: Mapping[str, object]) -> DictRow:
    row = connection.execute(_sql(name).encode(), arguments).fetchone()
    if row is None:
        raise SystemExit(f"dispatch_{name}.sql answered no row")
    return row


def _sql(name: str) -> str:
    return (_SQL / f"dispatch_{name}.sql").read_text()


def _pause() -> None:
    time.sleep(random.uniform(*_PAUSE_S))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


if __name__ == "__main__":
    main()
