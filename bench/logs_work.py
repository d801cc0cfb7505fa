"""The work that ``bench.logs`` measures, each in a process of its own, reading standard input.

``python -m bench.logs_work <what> <folder>`` prints JSON: CPU and wall seconds of the work alone
(imports and start are not in it), and the peak of resident memory.
"""

import os
import resource
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import orjson

import tendril_rt.agent.service  # noqa: F401 - for what a real agent holds in memory
from tendril_rt.control import wire
from tendril_rt.logs import basin as basins
from tendril_rt.logs import spool as spools
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.logs.shipper import MAX_BATCH_BYTES, Shipper
from tendril_rt.model import Ack, AgentId, Cancel, Chunk, Lease, ProvisionId, StreamType

_LEASE = Lease(ProvisionId("p"), 1, AgentId("a"))
_DEFAULT_SPOOL_BYTES = 64 * 1024 * 1024


class _Encoder:
    """A control plane that takes everything, as soon as it is JSON."""

    def __init__(self) -> None:
        self.encoded_bytes = 0

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        self.encoded_bytes += len(orjson.dumps(wire.chunks_json(chunks)))
        await anyio.lowlevel.checkpoint()
        return Ack(first_seq + len(chunks), accepted=True, cancel=Cancel.NONE)


class _Stalled:
    """A control plane that never answers."""

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        await anyio.sleep_forever()
        raise AssertionError


async def _ours(folder: Path, secret_count: int, *, is_stalled: bool = False) -> float:
    """Return the bytes that were encoded, or for a stalled network kept."""
    values = [secrets.token_urlsafe(30).encode() for _ in range(secret_count)]
    limit = _DEFAULT_SPOOL_BYTES if is_stalled else 1 << 40
    encoder = _Encoder()
    sink = _Stalled() if is_stalled else encoder
    silent, writing = os.pipe()
    os.close(writing)
    with (
        basins.create(folder / basins.FILE_NAME) as basin,
        spools.create(folder / "spool", _LEASE, Limits(limit, Allowance(1 << 41))) as spool,
    ):
        reader = Reader(spool, basin, Redactor(values))
        shipper = Shipper(spool, sink, on_cancel=lambda _: None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shipper.run)
            await reader.drain(0, silent)
            spool.close()
            if is_stalled:
                tasks.cancel_scope.cancel()
    os.close(silent)
    return float(encoder.encoded_bytes)


def _floor(folder: Path) -> float:
    """``cat`` from the pipe to a file, then one decode and one encode of everything."""
    path = folder / "copy"
    with path.open("wb") as file:
        subprocess.run(["cat"], stdin=0, stdout=file, check=True)
    encoded = 0
    buffer = memoryview(bytearray(MAX_BATCH_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            chunk = Chunk(0, 0, StreamType.STDOUT, str(buffer[:size], "utf-8", "replace"))
            encoded += len(orjson.dumps(wire.chunks_json([chunk])))
    return float(encoded)


def main() -> None:
    """Do it and print what it took."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    anyio.run(anyio.lowlevel.checkpoint)  # which imports the rest
    wall, cpu = time.perf_counter(), _cpu_s()
    if what == "floor":
        done_bytes = _floor(folder)
    elif what == "stalled":
        done_bytes = anyio.run(lambda: _ours(folder, 5, is_stalled=True))
    else:
        done_bytes = anyio.run(lambda: _ours(folder, int(what)))
    figures = {
        "cpu_s": _cpu_s() - cpu,
        "wall_s": time.perf_counter() - wall,
        "bytes": done_bytes,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.buffer.write(orjson.dumps(figures))


def _cpu_s() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
