"""An agent's reader and shipper that may be killed at any moment: ``python -m … <folder>``.

Imports once, then forks a new one for each line on its standard input: ``go``, or ``end`` for one
that reads until both pipes are empty and ends. Says the pid of each, that it is alive once it goes
on reading, and how it ended. What the control plane would hold is a file of lines, one per chunk,
written before it is acknowledged.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import orjson

from tendril_rt.logs import basin as basins
from tendril_rt.logs import spool as spools
from tendril_rt.logs.basin import Basin
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.logs.spool import Spool
from tests.unit.log_support import LEASE

SECRET = b"correct horse battery staple"
_LIMITS = Limits(1 << 28, Allowance(1 << 30))


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[Spool, Basin]]:
    basin_file, spool_folder = folder / basins.FILE_NAME, folder / "spool"
    with ExitStack() as stack:
        if basin_file.exists() and (spool_folder / "about.json").exists():
            basin = stack.enter_context(basins.reopen(basin_file))
            spool = stack.enter_context(spools.reopen(spool_folder, _LIMITS))
        else:
            basin_file.unlink(missing_ok=True)
            spool = stack.enter_context(spools.create(spool_folder, LEASE, _LIMITS))
            basin = stack.enter_context(basins.create(basin_file))
        yield spool, basin


async def _live(folder: Path, is_last: bool) -> None:
    ended = anyio.Event()
    if is_last:
        ended.set()
    with _opened(folder) as (spool, basin):
        reader = Reader(spool, basin, Redactor([SECRET]), flush_interval_s=0.002)
        os.write(1, b"alive\n")
        out, err = (os.open(folder / name, os.O_RDWR | os.O_NONBLOCK) for name in ("out", "err"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_ship, spool, folder / "stored")
            await reader.drain(out, err, ended)
            spool.close()


async def _ship(spool: Spool, stored: Path) -> None:
    with stored.open("ab", buffering=0) as file:
        while not (spool.is_closed and spool.acked == spool.next_seq):
            for chunk in spool.read(spool.acked, max_bytes=65536, max_chunks=7):
                fields = [chunk.seq, chunk.byte_offset, chunk.stream, chunk.text]
                file.write(b"\n" + orjson.dumps(fields) + b"\n")  # after one that a kill cut short
                spool.acknowledge(chunk.seq + 1)
            await (anyio.lowlevel.checkpoint() if spool.acked < spool.next_seq else _grown(spool))


async def _grown(spool: Spool) -> None:
    await spool.grown.wait()


def main() -> None:
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        is_last = line.strip() == "end"
        pid = os.fork()
        if pid == 0:
            anyio.run(_live, folder, is_last)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
