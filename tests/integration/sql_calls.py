"""Records what this release's clients send and are answered, and sends it again to another schema.

Ids and times are recorded as ``<names>``: an answer gives a name its value, a request uses it, and
``<any>`` is not compared. ``python -m tests.integration.sql_calls`` writes the recording of this
release (``calls_<version>.json``); it is frozen by the release.
"""

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import anyio
import orjson
from psycopg import sql
from psycopg.types.json import Jsonb

from tendril_rt import __version__
from tendril_rt.control.client import AgentInfo, ControlPlane
from tendril_rt.control.owner import Owner
from tendril_rt.local import postgres
from tendril_rt.model import (
    AgentId,
    Chunk,
    ClaimId,
    ClusterId,
    Operation,
    Outcome,
    Phase,
    Status,
    StreamType,
)

from .sql_support import Connection, Databases, connected

if TYPE_CHECKING:
    from tendril_rt.control.rest import Rest

FILE = Path(__file__).with_name(f"calls_{__version__.replace('.', '_')}.json")
COMMAND = "python -m tests.integration.sql_calls"

_USER = "a11ce000-0000-4000-8000-000000000001"
_AGENT = AgentId("a0000000-0000-4000-8000-000000000001")
_CLAIM = ClaimId("d0000000-0000-4000-8000-000000000001")
_SNAPSHOT = {
    "template_source": {"repo": "https://example.test/t.git", "version": "v1", "path": "p"},
    "terraform_vars": {"n": 9007199254740991},
    "sensitive": ["n"],
}
_NAMED = {"cluster_id": "cluster", "token": "token", "id": "provision"}
_VARYING = frozenset(
    {
        *("token_id", "fingerprint", "stack_key"),
        *("server_time", "created_at", "started_at", "completed_at"),
    }
)


class Call(TypedDict):
    """One request, as PostgREST is sent it, and the answer.

    Keys of *request*: function and arguments, or table and equal, above, order, limit; select.
    """

    role: str
    request: dict[str, object]
    answer: object


def send(connection: Connection, role: str, request: Mapping[str, object]) -> object:
    """Do what PostgREST does with *request*; return the answer as parsed JSON."""
    claims = {"role": role, **({"sub": _USER} if role == "authenticated" else {})}
    with connection.transaction():
        connection.execute(
            b"select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)",
            (json.dumps(claims), role),
        )
        if "function" in request:
            return _call(connection, request)
        return _read(connection, request)


def _call(connection: Connection, request: Mapping[str, object]) -> object:
    name = cast("str", request["function"])
    arguments = cast("dict[str, object]", request["arguments"])
    found = connection.execute(
        b"select p.proretset, array(select format('%%I %%s', a.name, a.type::regtype)"
        b"   from unnest(p.proargnames, p.proargtypes) as a (name, type)"
        b"   where a.name = any (%s)) as columns"
        b" from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = %s",
        (list(arguments), name),
    ).fetchall()
    assert len(found) == 1, f"{name} is overloaded or missing"
    assert len(found[0]["columns"]) == len(arguments), f"{name} lacks an argument"
    named = ", ".join(f"{argument} => given.{argument}" for argument in arguments)
    wanted = ", ".join(cast("list[str]", request["select"])) or "*"
    rows = connection.execute(
        f"select to_jsonb(answer) as answer from (select {wanted}"
        f" from jsonb_to_record(%s) as given ({', '.join(found[0]['columns'])}),"
        f" lateral public.{name}({named}) as result) as answer".encode(),
        (Jsonb(arguments),),
    ).fetchall()
    if found[0]["proretset"]:
        return [row["answer"] for row in rows]
    return rows[0]["answer"]["result"]


def _read(connection: Connection, request: Mapping[str, object]) -> object:
    equal = cast("dict[str, str]", request["equal"])
    above = cast("dict[str, int]", request["above"])
    order = cast("list[str]", request["order"])
    tests = [sql.SQL("{}::text = {}").format(sql.Identifier(n), v) for n, v in equal.items()]
    tests += [sql.SQL("{} > {}").format(sql.Identifier(n), v) for n, v in above.items()]
    query = sql.SQL("select {} from public.{} where {}").format(
        sql.SQL(", ").join(map(sql.Identifier, cast("list[str]", request["select"]))),
        sql.Identifier(cast("str", request["table"])),
        sql.SQL(" and ").join(tests),
    )
    if order:
        query += sql.SQL(" order by ") + sql.SQL(", ").join(map(sql.Identifier, order))
    rows = connection.execute(query).fetchall()
    return json.loads(json.dumps(rows, default=str))


@dataclass
class Recorder:
    """Stands where the clients' :class:`Rest` is; writes down what passes."""

    connection: Connection
    role: str
    calls: list[Call]
    names: dict[str, str]

    async def call(
        self, function: str, arguments: Mapping[str, object], *, select: Sequence[str] = ()
    ) -> object:
        sent = orjson.loads(orjson.dumps(arguments))
        return self._pass({"function": function, "arguments": sent, "select": list(select)})

    async def rows(
        self,
        table: str,
        columns: Sequence[str],
        *,
        equal: Mapping[str, str],
        above: Mapping[str, int] | None = None,
        order: Sequence[str] = (),
        limit: int | None = None,
    ) -> object:
        request = {"table": table, "select": list(columns), "equal": dict(equal)}
        return self._pass(
            {**request, "above": dict(above or {}), "order": list(order), "limit": limit}
        )

    def _pass(self, request: dict[str, object]) -> object:
        answer = send(self.connection, self.role, request)
        self._name(answer)
        self.calls.append(
            {
                "role": self.role,
                "request": cast("dict[str, object]", self._renamed(request)),
                "answer": self._renamed(answer),
            }
        )
        return answer

    def _name(self, answer: object) -> None:
        for row in answer if isinstance(answer, list) else [answer]:
            for key, name in _NAMED.items():
                if isinstance(row, dict) and isinstance(row.get(key), str):
                    names = sum(known.startswith(f"<{name}") for known in self.names.values())
                    self.names.setdefault(row[key], f"<{name} {names + 1}>")
                    if name == "token":
                        self.names.setdefault(_hash(row[key]), f"<hash of {self.names[row[key]]}>")

    def _renamed(self, value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: self._renamed(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._renamed(item) for item in value]
        if key in _VARYING and value is not None:
            return "<any>"
        return self.names.get(value, value) if isinstance(value, str) else value


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def record(connection: Connection) -> list[Call]:
    """Live through one of everything that an agent and its owner do."""
    calls: list[Call] = []
    names: dict[str, str] = {}
    user = Owner(cast("Rest", Recorder(connection, "authenticated", calls, names)))
    cluster = await user.register_cluster("recorded", max_concurrency=2)
    ran = await user.create_provision(cluster.cluster_id, _SNAPSHOT, operation=Operation.PLAN)
    cancelled = await user.create_provision(cluster.cluster_id, _SNAPSHOT)
    await user.cancel_provision(cancelled)

    rest = cast("Rest", Recorder(connection, "anon", calls, names))
    agent = ControlPlane(rest, ClusterId(cluster.cluster_id), _hash(cluster.token))
    info = AgentInfo(_AGENT, "host-1", "0.1.0", 2)
    await agent.realtime_token()
    await agent.heartbeat(info, {}, is_draining=False)
    provision = await agent.claim(_AGENT, _CLAIM)
    assert provision is not None
    lease = provision.lease
    await agent.claim(_AGENT, _CLAIM)  # as if the answer was lost
    await agent.claim(_AGENT, ClaimId(_CLAIM[:-1] + "2"))
    await agent.heartbeat(info, {lease: Phase.PLAN}, is_draining=False)
    chunks = [
        Chunk(0, 0, StreamType.SYSTEM, "claimed\n"),
        Chunk(1, 8, StreamType.STDOUT, "ünïcode\n"),
    ]
    await agent.append_chunks(lease, 0, chunks)
    await user.cancel_provision(ran, force=True)
    await agent.append_chunks(lease, 1, chunks[1:])
    await agent.heartbeat(info, {lease: Phase.APPLY}, is_draining=True)
    outcome = Outcome(Status.CANCELLED, "Cancelled by its owner.", "CANCELLED")
    for _ in range(2):
        await agent.finish(lease, outcome, log_chunks=2, metadata={"commit": "c"})
    await agent.heartbeat(info, {lease: Phase.APPLY}, is_draining=True)

    await user.provision(ran)
    await user.recent_provisions(cluster.cluster_id)
    await user.logs(ran, attempt=1, after_seq=-1)
    await user.cluster_status(cluster.cluster_id)
    return calls


@dataclass
class Replay:
    """Sends a recording again and compares the answers."""

    connection: Connection
    values: dict[str, str] = field(default_factory=dict)

    def run(self, calls: Sequence[Call]) -> list[str]:
        """Return what an older client would miss in the answers."""
        missed = []
        for call in calls:
            request = cast("dict[str, object]", self._filled(call["request"]))
            name = request.get("function") or request.get("table")
            answer = send(self.connection, call["role"], request)
            missed += [f"{name}{fault}" for fault in self._faults(call["answer"], answer, "")]
        return missed

    def _filled(self, value: object) -> object:
        if isinstance(value, dict):
            return {name: self._filled(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, str) and (token := re.fullmatch(r"<hash of (<.+>)>", value)):
            return _hash(self.values[token[1]])
        return self.values.get(value, value) if isinstance(value, str) else value

    def _faults(self, recorded: object, answer: object, path: str) -> list[str]:
        """Compare: keys may be added, never missed; names get their values where first seen."""
        if isinstance(recorded, dict) and isinstance(answer, dict):
            return [
                fault
                for name, item in recorded.items()
                for fault in self._faults(item, answer.get(name, "(missing)"), f"{path}.{name}")
            ]
        if isinstance(recorded, list) and isinstance(answer, list):
            if len(recorded) != len(answer):
                return [f"{path}: {len(answer)} rows, not {len(recorded)}"]
            pairs = enumerate(zip(recorded, answer, strict=True))
            return [fault for n, pair in pairs for fault in self._faults(*pair, f"{path}[{n}]")]
        if recorded == "<any>":
            return [] if answer not in (None, "(missing)") else [f"{path}: {answer}"]
        if isinstance(recorded, str) and recorded.startswith("<") and isinstance(answer, str):
            recorded = self.values.setdefault(recorded, answer)
        return [] if recorded == answer else [f"{path}: {answer!r}, not {recorded!r}"]


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with postgres.running(Path(folder) / "server") as server:
            databases = await anyio.to_thread.run_sync(Databases, server)
            with databases.copy("ready") as url, connected(url) as connection:
                text = json.dumps(await record(connection), indent=1, ensure_ascii=False)
    FILE.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    anyio.run(_main)
