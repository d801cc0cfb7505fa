"""How long it takes from the command to a first SUCCESS: ``make bench B=startup``.

Runs ``tendril demo --once`` several times over one folder (the first initialises the database) and
``terraform apply`` of the same template by hand, interleaved: what is left is ours.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.frame import Report
from tendril_rt import resources

_RUNS = 5
_VARIABLES = ("-var=name=tendril", "-var=lines=5", "-var=pause_seconds=0.2")


def _timed(argv: list[str], cwd: Path) -> float:
    started_at = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
    return (time.perf_counter() - started_at) * 1000


def _by_hand(program: str, folder: Path) -> float:
    """What nobody can save: the same three commands on a fresh copy."""
    module = folder / "by-hand"
    shutil.rmtree(module, ignore_errors=True)
    shutil.copytree(resources.templates() / "hello", module)
    plain = ["-input=false", "-no-color"]
    return (
        _timed([program, "init", *plain], module)
        + _timed([program, "plan", *plain, *_VARIABLES, "-out=plan"], module)
        + _timed([program, "apply", *plain, "plan"], module)
    )


def main() -> None:
    """Print the table and write the JSON file."""
    program = shutil.which("terraform") or shutil.which("tofu")
    if program is None:
        raise SystemExit("this benchmark needs terraform or tofu on PATH")
    demo = [sys.executable, "-m", "tendril_rt.cli.main", "demo", "--once", "--data"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = _timed([*demo, str(folder / "demo")], Path.cwd())
        again: list[float] = []
        by_hand: list[float] = []
        for _ in range(_RUNS):
            # A fresh state each time, so that every apply has the same to do.
            shutil.rmtree(folder / "demo" / "agent" / "tfstate", ignore_errors=True)
            again.append(_timed([*demo, str(folder / "demo")], Path.cwd()))
            by_hand.append(_by_hand(program, folder))
    report = Report("startup", f"tendril demo --once, on {os.cpu_count()} CPUs")
    report.add("first_ms", first, "first start to the end", "ms")
    report.add_samples("second_ms", again, "later start to the end", "ms")
    report.add_samples("by_hand_ms", by_hand, "terraform by hand", "ms")
    report.finish()


if __name__ == "__main__":
    main()
