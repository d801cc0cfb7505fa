"""What streaming a log costs: CPU, memory, requests, latency: ``make bench B=logs``.

CPU against a floor that nobody can save: ``cat`` from a pipe to a file, one decode, one encode.
``--mb`` makes a short run; the default is 1 GiB, five pairs, about five minutes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
import orjson

from bench.frame import Report
from bench.logs_rpc import Streamed, streamers

_PAIRS = 5
_SOURCE = """
import sys
line = b"aws_instance.web[0]: Still creating... [1m20s elapsed] id=i-0abc123def4567890\\n"
block = (line * (1 << 20))[: 1 << 20]
for _ in range(int(sys.argv[1])):
    sys.stdout.buffer.write(block)
"""
_RATE_MB_PER_S = 6.0


def _work(what: str, size_mb: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        source = subprocess.Popen(
            [sys.executable, "-c", _SOURCE, str(size_mb)], stdout=subprocess.PIPE
        )
        with source:
            done = subprocess.run(
                [sys.executable, "-m", "bench.logs_work", what, folder],
                stdin=source.stdout,
                stdout=subprocess.PIPE,
                check=True,
            )
        figures: dict[str, float] = orjson.loads(done.stdout)
    return figures


def _pairs(report: Report, secret_count: int, pairs: int, size_mb: int) -> None:
    """Run ours and the floor in turn."""
    ratios, walls = list[float](), list[float]()
    costs: dict[str, list[float]] = {"ours": [], "floor": []}
    for _ in range(pairs):
        ours, floor = _work(str(secret_count), size_mb), _work("floor", size_mb)
        assert ours["bytes"] >= floor["bytes"], "something was lost"
        ratios.append(ours["cpu_s"] / floor["cpu_s"])
        walls.append(ours["wall_s"] / floor["wall_s"])
        costs["ours"].append(ours["cpu_s"] * 1024 / size_mb)
        costs["floor"].append(floor["cpu_s"] * 1024 / size_mb)
    tag = "" if secret_count == 5 else f"_{secret_count}_secrets"
    name = f"{secret_count} secrets"
    for who, samples in costs.items():
        report.add(
            f"cpu_s_per_gib_{who}{tag}", statistics.median(samples), f"CPU, {who}, {name}", "s/GiB"
        )
    report.add_samples(f"cpu_ratio_to_floor{tag}", ratios, f"CPU to floor, {name}", "times")
    report.add(
        f"wall_ratio_to_floor{tag}", statistics.median(walls), f"wall to floor, {name}", "times"
    )


async def _requests(report: Report, size_mb: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with streamers(Path(folder)) as run:
            _add(report, "", "ours", await run.ours(size_mb * 1_000_000, _RATE_MB_PER_S))
            _add(report, "task_per_chunk_", "a task per 10 KB", await run.task_per_chunk(4_000_000))
            _add(report, "line_by_line_", "a request per line", await run.line_by_line(100_000))
            latencies = sorted(await run.line_latencies_ms())
    for percent in (50, 99):
        value = latencies[min(len(latencies) - 1, len(latencies) * percent // 100)]
        report.add(f"line_p{percent}_ms", value, f"printed line to visible row, p{percent}", "ms")


def _add(report: Report, prefix: str, name: str, done: Streamed) -> None:
    report.add(f"{prefix}rpcs_per_mb", done.rpcs_per_mb, f"requests, {name}", "per MB")
    report.add(f"{prefix}stored_mb_per_s", done.mb_per_s, f"stored, {name}", "MB/s")
    report.add(f"{prefix}inversions", done.inversions, f"lines out of order, {name}", "")


def main() -> None:
    """Print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1024, help="size of the output, in MiB")
    parser.add_argument("--pairs", type=int, default=_PAIRS, help="how often it is measured")
    options = parser.parse_args()
    report = Report("logs", f"streaming {options.mb} MiB of log")
    _pairs(report, 5, options.pairs, options.mb)
    for secret_count in (0, 50):
        _pairs(report, secret_count, max(1, options.pairs // 2), options.mb)
    stalled = _work("stalled", options.mb)
    report.add("stalled_rss_mb", stalled["rss_mb"], "resident, network stalled", "MB")
    anyio.run(_requests, report, max(4, options.mb // 64))
    report.finish()


if __name__ == "__main__":
    main()
