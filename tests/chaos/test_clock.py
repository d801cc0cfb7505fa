"""A program's wall clock steps while it runs, its monotonic clock does not; nothing is left."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.chaos import clock
from tests.chaos.run import left_out

_DAY_S = 24 * 3600
_TELLS = """
import sys, time
for _ in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""


def test_a_step_is_one_of_the_wall_clock_of_one_program(tmp_path: Path) -> None:
    preloaded = clock.library()
    if preloaded is None:
        assert {"clock-forward", "clock-back"} <= left_out().keys()
        return
    path = tmp_path / "clock"
    environment = {**os.environ, **clock.environment(preloaded, path)}
    with subprocess.Popen(
        [sys.executable, "-c", _TELLS],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as program:  # fmt: skip
        assert program.stdin is not None
        assert program.stdout is not None
        for ahead_s in (0, _DAY_S, -_DAY_S, 0):
            clock.step(path, ahead_s)
            program.stdin.write("\n")
            program.stdin.flush()
            wall, monotonic = map(float, program.stdout.readline().split())
            assert abs(wall - time.time() - ahead_s) < 60
            assert abs(monotonic - time.monotonic()) < 60
        program.kill()
    clock.forget(program.pid)
    assert not list(Path("/dev/shm").glob(f"*faketime*_{program.pid}"))
