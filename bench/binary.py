"""Start-up time and size of the binaries against the wheel: ``make bench B=binary``.

Start-up is ``tendril run`` without settings, which imports all of an agent and then refuses: from
the command to the end of the process, interleaved. Needs ``make binary`` first, and measures what
it left in ``dist/``.
"""

import os
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

from bench.frame import Report

_RUNS = 15
_REFUSED = 2
_MB = 1e6
_DIST = Path("dist")
_PROGRAMS = {
    "wheel": [sys.executable, "-m", "tendril_rt.cli.main"],
    "one_file": [str(_DIST / "tendril")],
    "folder": [str(_DIST / "tendril-demo" / "tendril")],
}


def main() -> None:
    """Print the table and write the JSON file."""
    missing = [argv[-1] for name, argv in _PROGRAMS.items() if name != "wheel"]
    if not all(Path(path).exists() for path in missing):
        raise SystemExit(f"build the binaries first (make binary): {', '.join(missing)}")
    times: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in range(_RUNS):
        for name, argv in _PROGRAMS.items():
            times[name].append(_start_ms([*argv, "run"]))
    report = Report("binary", f"binaries and wheel, on {os.cpu_count()} CPUs")
    for name, samples in times.items():
        report.add_samples(f"{name}_start_ms", samples, f"{name}: start of an agent", "ms")
    report.add("wheel_mb", _installed_bytes() / _MB, "wheel[grape] with its packages", "MB")
    report.add("one_file_mb", (_DIST / "tendril").stat().st_size / _MB, "one file", "MB")
    report.add("folder_mb", _bytes_below(_DIST / "tendril-demo") / _MB, "folder", "MB")
    report.finish()


def _start_ms(argv: list[str]) -> float:
    env = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    started_at = time.perf_counter()
    done = subprocess.run(argv, env=env, capture_output=True, check=False)
    if done.returncode != _REFUSED:
        raise SystemExit(f"{argv} ended with {done.returncode}:\n{done.stderr.decode()}")
    return (time.perf_counter() - started_at) * 1000


def _installed_bytes() -> int:
    """Return the size of what ``pip install 'tendril-rt[grape]'`` brings, without Python itself."""
    names, waiting = set[str](), [("tendril-rt", "grape"), ("psycopg", "binary")]
    while waiting:
        name, extra = waiting.pop()
        names.add(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            applies = needed.marker is None or needed.marker.evaluate({"extra": extra})
            if applies and needed.name not in names:
                waiting.append((needed.name, ""))
    own = _bytes_below(Path("src"))
    return own + sum(
        Path(str(file.locate())).stat().st_size
        for name in names - {"tendril-rt"}
        for file in distribution(name).files or ()
        if Path(str(file.locate())).exists()
    )


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
