"""A process that launches another one as an agent does, to be killed by a test while it attends it.

``python -m tests.integration.doomed_agent RUN_DIR GRACE_S PROGRAM [ARGUMENT...]``: reads the first
bytes of output into the file ``first`` beside RUN_DIR, then nothing more. A file ``interrupt``
beside RUN_DIR has the process interrupted, with a grace of GRACE_S seconds and no kill.
"""

import os
import sys
from pathlib import Path

import anyio

from tendril_rt.runner import process
from tendril_rt.runner.attended import StopPolicy, StopRequest


class _FirstBytes:
    """Reads once, and then holds on without reading."""

    stderr_tail = b""

    def __init__(self, into: Path) -> None:
        self._into = into

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> None:
        await anyio.wait_readable(stdout)
        written = self._into.with_suffix(".new")
        written.write_bytes(os.read(stdout, 1024))
        written.rename(self._into)
        await anyio.sleep_forever()


async def _main(run_dir: Path, grace_s: float, argv: list[str]) -> None:
    request = StopRequest()
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while not (run_dir.parent / "interrupt").exists():  # noqa: ASYNC110 - see the module
                await anyio.sleep(0.01)
            request.interrupt.set()

        tasks.start_soon(watch)
        await process.run(
            argv,
            cwd=run_dir.parent,
            env={"PATH": os.environ["PATH"]},
            run_dir=run_dir,
            output=_FirstBytes(run_dir.parent / "first"),
            policy=StopPolicy(grace_s=grace_s, kill=False),
            request=request,
        )


if __name__ == "__main__":
    anyio.run(_main, Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
