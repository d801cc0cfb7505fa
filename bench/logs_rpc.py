"""Requests and latencies of log streamers over an embedded control plane, for ``bench.logs``.

Ours, against two simpler ones: a request per line, in order (``async for line``), and the design
that ours replaces: a request per 10 KB, each from a task of its own, so that they overtake.
"""

import hashlib
import os
import random
import threading
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg

from tendril_rt.control.client import ControlPlane
from tendril_rt.control.owner import owner
from tendril_rt.control.rest import Rest, connect
from tendril_rt.local.plane import Plane, running
from tendril_rt.logs import basin as basins
from tendril_rt.logs import spool as spools
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.logs.shipper import Shipper
from tendril_rt.model import Ack, AgentId, Chunk, ClaimId, Lease, ProvisionId

_MB = 1_000_000
_SQL = (Path(__file__).parent / "sql" / "logs_after.sql").read_bytes()
_SNAPSHOT = {"template_source": {"repo": "https://example.com/x.git", "version": "v1"}}
_AGENT = AgentId("7b0c5a54-3f0a-4f43-9c5b-0a9c1f6b8a01")
_LINES = 60
_OLD_CHUNK_BYTES = 10 * 1024
_OLD_TASKS = 19


@dataclass
class Streamed:
    """What one streamer did.

    :ivar inversions: neighbours in the stored log that stand in the wrong order
    """

    size_bytes: int
    rpcs: int
    wall_s: float
    inversions: int

    @property
    def rpcs_per_mb(self) -> float:
        return self.rpcs / (self.size_bytes / _MB)

    @property
    def mb_per_s(self) -> float:
        return self.size_bytes / _MB / self.wall_s


@dataclass
class _Counting:
    """Our sink: the control plane's client, counted."""

    control: ControlPlane
    lease: Lease
    rpcs: int = field(default=0)

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        self.rpcs += 1
        return await self.control.append_chunks(self.lease, first_seq, chunks)


class Streamers:
    """Runs streamers over one plane; see :func:`streamers`."""

    def __init__(self, plane: Plane, rest: Rest, folder: Path) -> None:
        self._plane = plane
        self._rest = rest
        self._folder = folder
        self._who: dict[str, str] = {}

    async def ours(self, size_bytes: int, mb_per_s: float) -> Streamed:
        """Stream numbered lines at about this pace."""
        pipe = _Pipe(size_bytes, mb_per_s)
        control = await self._cluster()
        provision = await control.claim(_AGENT, ClaimId(str(uuid.uuid4())))
        assert provision is not None
        sink = _Counting(control, provision.lease)
        wall_s = await self._stream(sink, pipe)
        return Streamed(size_bytes, sink.rpcs, wall_s, await self._inversions(provision.lease))

    async def line_latencies_ms(self) -> list[float]:
        """Print lines now and then; return how long each took to become visible as a row."""
        control = await self._cluster()
        provision = await control.claim(_AGENT, ClaimId(str(uuid.uuid4())))
        assert provision is not None
        seen: dict[int, float] = {}
        pipe = _Pipe(0, 1.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                anyio.to_thread.run_sync, self._watch, provision.lease.provision_id, seen
            )
            await self._stream(_Counting(control, provision.lease), pipe)
        return [(seen[number] - at) * 1000 for number, at in enumerate(pipe.printed_at)]

    async def line_by_line(self, size_bytes: int) -> Streamed:
        """``async for line in stdout``, and a request for each."""
        provision_id = await self._claimed_without_agent()
        started_at, rpcs = time.perf_counter(), 0
        for line in _lines(size_bytes):
            await self._insert(provision_id, line)
            rpcs += 1
        wall_s = time.perf_counter() - started_at
        return Streamed(
            size_bytes, rpcs, wall_s, await self._inversions(Lease(provision_id, 1, _AGENT))
        )

    async def task_per_chunk(self, size_bytes: int) -> Streamed:
        """A request per 10 KB, each from a task of its own."""
        provision_id = await self._claimed_without_agent()
        text = "".join(_lines(size_bytes))
        pieces = [text[i : i + _OLD_CHUNK_BYTES] for i in range(0, size_bytes, _OLD_CHUNK_BYTES)]
        limit = anyio.CapacityLimiter(_OLD_TASKS)

        async def post(piece: str) -> None:
            async with limit:
                await self._insert(provision_id, piece)

        started_at = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for piece in pieces:
                tasks.start_soon(post, piece)
        wall_s = time.perf_counter() - started_at
        lease = Lease(provision_id, 1, _AGENT)
        return Streamed(size_bytes, len(pieces), wall_s, await self._inversions(lease))

    async def _stream(self, sink: _Counting, pipe: "_Pipe") -> float:
        folder = self._folder / sink.lease.provision_id
        folder.mkdir()
        started_at = time.perf_counter()
        limits = Limits(1 << 30, Allowance(1 << 31))
        with (
            basins.create(folder / basins.FILE_NAME) as basin,
            spools.create(folder / "spool", sink.lease, limits) as spool,
        ):
            reader = Reader(spool, basin, Redactor([b"a secret of some length"]))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Shipper(spool, sink, on_cancel=lambda _: None).run)
                with pipe.flowing() as (stdout, stderr):
                    await reader.drain(stdout, stderr)
                spool.close()
        return time.perf_counter() - started_at

    async def _cluster(self) -> ControlPlane:
        """Make a cluster with one provision queued; return an agent's view of it."""
        plane = self._plane
        async with owner(plane.url, plane.anon_key, plane.user_token) as user:
            cluster = await user.register_cluster(f"logs {random.random()}")
            await user.create_provision(cluster.cluster_id, _SNAPSHOT)
        token_hash = hashlib.sha256(cluster.token.encode()).hexdigest()
        self._who = {"p_cluster_id": cluster.cluster_id, "p_token_hash": token_hash}
        return ControlPlane(self._rest, cluster.cluster_id, token_hash)

    async def _claimed_without_agent(self) -> ProvisionId:
        await self._cluster()
        rows = await self._rest.call("fetch_next_provision", self._who, select=("id",))
        assert isinstance(rows, list)
        return ProvisionId(rows[0]["id"])

    async def _insert(self, provision_id: ProvisionId, text: str) -> None:
        await self._rest.call(
            "insert_provision_log",
            {
                **self._who,
                "p_provision_id": provision_id,
                "p_log_chunk": text,
                "p_stream_type": "STDOUT",
            },
        )

    async def _inversions(self, lease: Lease) -> int:
        async with await psycopg.AsyncConnection.connect(self._plane.database_url) as connection:
            found = await connection.execute(
                _SQL, {"provision_id": lease.provision_id, "after": -1}
            )
            texts = [str(row[1]) for row in await found.fetchall()]
        words = "".join(texts).split("\n")
        numbers = [int(word[:9]) for word in words if word[:9].isdigit() and len(word) > 9]
        return sum(a > b for a, b in pairwise(numbers))

    def _watch(self, provision_id: ProvisionId, seen: dict[int, float]) -> None:
        """Look for new rows all the time, until every line was seen."""
        after = -1
        with psycopg.connect(self._plane.database_url, autocommit=True) as connection:
            while len(seen) < _LINES:
                rows = connection.execute(_SQL, {"provision_id": provision_id, "after": after})
                for seq, text in rows.fetchall():
                    after = seq
                    for line in text.splitlines():
                        seen[int(line)] = time.perf_counter()
                time.sleep(0.004)


class _Pipe:
    """A program's output: numbered lines at a pace, or without a size a line now and then."""

    def __init__(self, size_bytes: int, mb_per_s: float) -> None:
        self._size_bytes = size_bytes
        self._bytes_per_s = mb_per_s * _MB
        self.printed_at: list[float] = []

    def flowing(self) -> "_Flow":
        return _Flow(self._print)

    def _print(self, descriptor: int) -> None:
        if self._size_bytes:
            text, started_at = "".join(_lines(self._size_bytes)).encode(), time.perf_counter()
            for position in range(0, len(text), 65536):
                ahead_s = position / self._bytes_per_s - (time.perf_counter() - started_at)
                time.sleep(max(0.0, ahead_s))
                os.write(descriptor, text[position : position + 65536])
            return
        chance = random.Random(1)
        for number in range(_LINES):
            time.sleep(chance.uniform(0.1, 0.9))
            self.printed_at.append(time.perf_counter())
            os.write(descriptor, b"%d\n" % number)


class _Flow:
    """Two pipes, the first of which a thread writes to."""

    def __init__(self, write: object) -> None:
        assert callable(write)
        self._out, self._err = os.pipe(), os.pipe()
        self._thread = threading.Thread(target=self._run, args=(write,))

    def _run(self, write: object) -> None:
        assert callable(write)
        write(self._out[1])
        os.close(self._out[1])

    def __enter__(self) -> tuple[int, int]:
        os.close(self._err[1])
        self._thread.start()
        return self._out[0], self._err[0]

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        os.close(self._out[0])
        os.close(self._err[0])


@asynccontextmanager
async def streamers(folder: Path) -> AsyncIterator[Streamers]:
    """Start a control plane below *folder*."""
    async with (
        running(folder / "plane") as plane,
        connect(plane.url, plane.anon_key, token=plane.anon_key, headers={}, timeout_s=30) as rest,
    ):
        yield Streamers(plane, rest, folder)


def _lines(size_bytes: int) -> list[str]:
    line = "%09d aws_instance.web[0]: Still creating... [1m20s elapsed]\n"
    return [line % number for number in range(size_bytes // len(line % 0))]
