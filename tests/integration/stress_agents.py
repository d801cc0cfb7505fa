"""Agents that crash at every step, for the stress test.

A crash closes the connection before a call is sent, after it is sent but before its answer is read
(so it takes effect and nobody knows), or after the answer. Then the agent is gone for good, or
returns at once, or returns when its lease is long dead, and carries on as if nothing had happened.
"""

import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import orjson
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

LEASE_TTL_S = 0.4
_CRASH = 0.025  # the odds of each kind of crash, at each call
_ODDS = {"update_provision_status": 3}  # times that; it is rarely called
_STALL = 0.01  # those of sleeping through the lease's end, at each step

#: The clusters of ``sql/tests/support.sql``.
TOKEN_HASHES = {
    "c0000000-0000-4000-8000-000000000001": "a1" * 32,
    "c0000000-0000-4000-8000-000000000002": "b0" * 32,
}


class _Crash(Exception):
    """The agent is dead.

    :ivar unseen: the answer that it had just got
    """

    def __init__(self, unseen: list[DictRow] | None = None) -> None:
        super().__init__()
        self.unseen = unseen


class _Fenced(Exception):
    """The attempt belongs to somebody else, or is over."""


@dataclass
class Agent:
    """One agent through all its lives.

    :ivar agent_id: of this life; kept by an agent that returns
    :ivar claims: every claim's answer as (provision, attempt), and under which agent_id it came
    :ivar applies: attempts that were confirmed to be in APPLY
    :ivar reports: attempts whose final report was accepted, with their agent_id and status
    :ivar counts: crashes by kind and step, and what else happened
    """

    url: str
    dice: random.Random
    over: threading.Event
    agent_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    claims: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    applies: set[tuple[str, int]] = field(default_factory=set)
    reports: list[tuple[str, int, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    connection: psycopg.Connection[DictRow] | None = None

    def live(self) -> "Agent":
        """Work, crash and return until it is over."""
        while not self.over.is_set():
            cluster = self.dice.choice(list(TOKEN_HASHES))
            run = self._claim(cluster)
            if run is None:
                self._beat_idly(cluster)
                time.sleep(self.dice.uniform(0.005, 0.02))
                continue
            self._follow(run)
        self._disconnect()
        return self

    def _claim(self, cluster: str) -> "_Run | None":
        """Claim; ask again with the same claim id if the agent dies over it and returns."""
        claim_id = str(uuid.uuid4())
        unseen: list[DictRow] | None = None
        asked_at = time.monotonic()
        while True:
            try:
                rows = self.call(
                    "fetch_next_provision", cluster, p_agent_id=self.agent_id, p_claim_id=claim_id
                )
            except _Crash as crash:
                unseen = crash.unseen or unseen
                if not self._returns():
                    return None
                continue
            if unseen and time.monotonic() < asked_at + LEASE_TTL_S:
                assert rows, "a claim whose answer was lost is lost"
                assert rows[0]["id"] == unseen[0]["id"], "the answer was another one"
                self.counts["replayed"] += 1
            if not rows:
                return None
            provision, attempt = str(rows[0]["id"]), int(rows[0]["attempt"])
            self.claims[provision, attempt].add(self.agent_id)
            return _Run(cluster, provision, attempt, self.dice.randint(0, 4))

    def _follow(self, run: "_Run") -> None:
        """Work through *run* until it is reported, fenced out, or abandoned.

        A crash is followed by the step that it came in: the agent knows no better.
        """
        steps = list(run.steps(self))
        done = 0
        while done < len(steps):
            if self.dice.random() < _STALL:
                self.stall()
            try:
                steps[done]()
            except _Crash:
                if not self._returns():
                    self.counts["abandoned"] += 1
                    return
            except _Fenced:
                self.counts["fenced"] += 1
                return
            else:
                done += 1
        self.counts["reported"] += 1

    def stall(self) -> None:
        """Sleep until the lease is about to end, has ended, or is long gone."""
        self.counts["stalled"] += 1
        time.sleep(self.dice.uniform(0.3, 1.2))

    def _returns(self) -> bool:
        """Throw the dice over what follows a crash; True if it is the same agent that returns."""
        fate = self.dice.random()
        if fate < 0.4:
            self.agent_id = str(uuid.uuid4())
            return False
        if fate < 0.7:
            self.stall()
        return True

    def _beat_idly(self, cluster: str) -> None:
        try:
            self.beat(cluster, [])
        except _Crash:
            self._returns()

    def beat(self, cluster: str, leases: list[dict[str, object]]) -> list[dict[str, object]]:
        agent = {
            "id": self.agent_id,
            "hostname": "stress",
            "version": "1",
            "state": "ONLINE",
            "capacity": 1,
            "leases": leases,
        }
        rows = self.call("agent_heartbeat", cluster, p_agent=orjson.dumps(agent).decode())
        answer: list[dict[str, object]] = rows[0]["agent_heartbeat"]["leases"]
        return answer

    def call(self, function: str, cluster: str, **arguments: object) -> list[DictRow]:
        """Call as PostgREST does, or crash instead.

        :raises _Crash: before it was sent, before it was answered, or after that
        :raises _Fenced: the control plane said that the lease is lost
        """
        given = {"p_cluster_id": cluster, "p_token_hash": TOKEN_HASHES[cluster], **arguments}
        values = [None if value is None else str(value) for value in given.values()]
        named = ", ".join(f"{name} => ${n}" for n, name in enumerate(given, start=1))
        query = f"select * from public.{function}({named})".encode()
        fate = self.dice.random() / _ODDS.get(function, 1)
        if fate < _CRASH:
            self._crash(f"before {function}")
        connection = self._connected()
        if fate < 2 * _CRASH:
            wire = [None if value is None else value.encode() for value in values]
            connection.pgconn.send_query_params(query, wire)
            connection.pgconn.flush()
            self._crash(f"unanswered {function}")
        try:
            rows = psycopg.RawCursor(connection).execute(query, values).fetchall()
        except psycopg.Error as refusal:
            if refusal.sqlstate == "PT409":
                raise _Fenced from refusal
            raise
        if fate < 3 * _CRASH or (function == "fetch_next_provision" and rows and fate < 6 * _CRASH):
            self._crash(f"after {function}", rows)
        return rows

    def _connected(self) -> psycopg.Connection[DictRow]:
        if self.connection is None:
            self.connection = psycopg.connect(self.url, autocommit=True, row_factory=dict_row)
            self.connection.execute(b"set role anon")
        return self.connection

    def _crash(self, when: str, unseen: list[DictRow] | None = None) -> None:
        self.counts[f"crash {when}"] += 1
        self._disconnect()
        raise _Crash(unseen)

    def _disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


@dataclass(frozen=True)
class _Run:
    """One claimed attempt."""

    cluster: str
    provision: str
    attempt: int
    chunks: int

    def steps(self, agent: Agent) -> Iterator[Callable[[], None]]:
        """Yield the calls of this attempt, in order. Each may be made again."""
        dice = agent.dice
        if self.attempt > 1:  # slow, so that those who lost it meet it alive
            yield partial(time.sleep, dice.uniform(0.1, 0.3))
        yield partial(self._beat, agent, "PREPARE")
        offset = 0
        for seq in range(self.chunks):
            if dice.random() < 0.1:
                yield partial(self._deliver_too_early, agent, offset)
            yield partial(self._deliver, agent, seq, offset)
            offset += len(self._text(seq))
        if dice.random() < 0.3:  # fails before it applies anything
            if dice.random() < 0.2:
                yield agent.stall
            yield partial(self._report, agent, "FAILED")
            return
        yield partial(self._beat, agent, "PLAN")
        yield partial(self._beat, agent, "APPLY")
        if dice.random() < 0.1:
            yield partial(self._report_too_early, agent)
        for _ in range(2 if dice.random() < 0.1 else 1):
            yield partial(self._report, agent, "SUCCESS")

    def _text(self, seq: int) -> str:
        return f"{self.provision} {self.attempt} {seq} {'=' * (seq * 7)}\n"

    def _beat(self, agent: Agent, phase: str) -> None:
        lease: dict[str, object] = {
            "provision_id": self.provision,
            "attempt": self.attempt,
            "phase": phase,
        }
        if not agent.beat(self.cluster, [lease])[0]["held"]:
            raise _Fenced
        if phase == "APPLY":
            agent.applies.add((self.provision, self.attempt))

    def _deliver(self, agent: Agent, seq: int, offset: int) -> None:
        assert self._delivered(agent, seq, offset), "a chunk in its place was refused"

    def _deliver_too_early(self, agent: Agent, offset: int) -> None:
        assert not self._delivered(agent, self.chunks + 7, offset), "a gap was accepted"

    def _delivered(self, agent: Agent, seq: int, offset: int) -> bool:
        chunk = {"s": "STDOUT", "o": offset, "t": self._text(seq)}
        rows = agent.call(
            "insert_provision_logs",
            self.cluster,
            p_provision_id=self.provision,
            p_attempt=self.attempt,
            p_agent_id=agent.agent_id,
            p_first_seq=seq,
            p_chunks=orjson.dumps([chunk]).decode(),
        )
        return bool(rows[0]["insert_provision_logs"]["accepted"])

    def _report(self, agent: Agent, status: str) -> None:
        if self._reported(agent, status, self.chunks)["changed"]:
            agent.reports.append((self.provision, self.attempt, agent.agent_id, status))

    def _report_too_early(self, agent: Agent) -> None:
        with pytest.raises(psycopg.Error) as refusal:
            self._reported(agent, "SUCCESS", self.chunks + 1)
        assert refusal.value.sqlstate == "PT422"

    def _reported(self, agent: Agent, status: str, chunks: int) -> DictRow:
        rows = agent.call(
            "update_provision_status",
            self.cluster,
            p_provision_id=self.provision,
            p_status=status,
            p_attempt=self.attempt,
            p_agent_id=agent.agent_id,
            p_log_chunks=chunks,
        )
        answer: DictRow = rows[0]["update_provision_status"]
        return answer
