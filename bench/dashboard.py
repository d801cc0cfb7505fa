"""What a reader of the dashboard feels: ``make bench B=dashboard``.

A real Chromium, the embedded plane, an agent whose Terraform prints the time. Lines: from being
printed to being painted, so the agent's own 500 ms of batching are in it. Log: 50 MB as they are
stored, from opening the page to its last line, then a search that reads all of it. Clusters: a
thousand on the page while ten heartbeats a second arrive.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import orjson
import psycopg
from playwright.async_api import CDPSession, Page, async_playwright, expect

from bench.frame import Report
from tendril_rt.control.owner import Registration, owner

_LINES = 200
_LINE_S = 0.1
_LOG_CHUNKS = 5000  # of 10,000 bytes
_CLUSTERS = 1000
_BEATS = 100
_BEAT_S = 0.1
_PATIENCE_MS = 120_000
_TENDRIL = (sys.executable, "-m", "tendril_rt.cli.main")
_SQL = Path(__file__).parent / "sql"
_PRINTER = f"""#!/bin/sh
case "$1" in
  version) echo "Terraform v1.11.4" ;;
  output) echo '{{}}' ;;
  apply)
    i=0
    while [ $i -lt {_LINES} ]; do
      echo "mark $i $(date +%s%N)"; i=$((i + 1)); sleep {_LINE_S}
    done ;;
esac
"""


class Plane(NamedTuple):
    """What ``tendril dev --json`` printed, as far as it is needed here."""

    url: str
    anon_key: str
    user_token: str
    database_url: str
    dashboard_url: str


@contextmanager
def _running(argv: list[str], **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(argv, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def _plane(folder: Path) -> Iterator[Plane]:
    argv = [*_TENDRIL, "dev", "--json", "--data", str(folder)]
    with _running(argv, stdout=subprocess.PIPE) as process:
        said = orjson.loads(process.stdout.readline())  # type: ignore[union-attr]
        yield Plane(*(said[name] for name in Plane._fields))


def _statement(name: str) -> bytes:
    return (_SQL / f"dashboard_{name}.sql").read_bytes()


def _agent(plane: Plane, cluster: Registration, folder: Path) -> dict[str, str]:
    """Return the environment of an agent whose Terraform prints the time."""
    folder.mkdir()
    terraform = folder / "terraform"
    terraform.write_text(_PRINTER)
    terraform.chmod(0o700)
    return {
        **os.environ,
        "TENDRIL_CLUSTER_ID": cluster.cluster_id,
        "TENDRIL_API_TOKEN": cluster.token,
        "SUPABASE_URL": plane.url,
        "SUPABASE_KEY": plane.anon_key,
        "TENDRIL_STATE_DIR": str(folder / "state"),
        "TENDRIL_WORKSPACE_DIR": str(folder / "workspaces"),
        "TENDRIL_TERRAFORM": str(terraform),
        "TENDRIL_ALLOW_FILE_REPOS": "true",
    }


def _template_repo(folder: Path) -> str:
    folder.mkdir()
    (folder / "main.tf").write_text('resource "terraform_data" "x" {}\n')
    who = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "x"), ("tag", "v1")):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder.as_uri()


@asynccontextmanager
async def _page(plane: Plane) -> AsyncIterator[Page]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("this benchmark needs Chromium on PATH (Debian: apt install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(_PATIENCE_MS)
        await page.add_init_script(path=Path(__file__).with_name("dashboard_page.js"))
        await page.goto(plane.dashboard_url)
        await page.get_by_role("button", name="Sign out").wait_for()
        yield page
        await browser.close()


async def _show(page: Page, url: str) -> None:
    """Open a view as from a bookmark: everything is loaded anew."""
    await page.goto("about:blank")
    await page.goto(url)


class Metrics:
    """What the browser counts of a page, from here on: one session, since each counts anew."""

    def __init__(self, session: CDPSession) -> None:
        self._session = session

    @classmethod
    async def of(cls, page: Page) -> "Metrics":
        session = await page.context.new_cdp_session(page)
        await session.send("Performance.enable")
        return cls(session)

    async def heap_mb(self) -> float:
        """Return what is left on the heap after a collection."""
        await self._session.send("HeapProfiler.collectGarbage")
        return await self._read("JSHeapUsedSize") / 2**20

    async def busy_s(self) -> float:
        """Return how long the main thread was busy."""
        return await self._read("TaskDuration")

    async def _read(self, name: str) -> float:
        metrics = (await self._session.send("Performance.getMetrics"))["metrics"]
        return next(float(metric["value"]) for metric in metrics if metric["name"] == name)


async def _lines(page: Page, plane: Plane, folder: Path, report: Report) -> None:
    async with owner(plane.url, plane.anon_key, plane.user_token) as user:
        cluster = await user.register_cluster("lines")
        source = {"repo": _template_repo(folder / "repo"), "version": "v1"}
        environment = _agent(plane, cluster, folder / "agent")
        with _running(
            [*_TENDRIL, "run"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ):
            run = await user.create_provision(cluster.cluster_id, {"template_source": source})
            await _show(page, f"{plane.url}/dashboard/#/provisions/{run}")
            await expect(page.locator(".xterm-rows")).to_contain_text(f"mark {_LINES - 1} ")
    lags = await page.evaluate("bench.lags()")
    report.add("lines_seen", len(lags), f"lines painted of {_LINES}", "")
    report.add("line_painted_p50_ms", statistics.median(lags), "printed → painted, p50", "ms")
    p99 = statistics.quantiles(lags, n=100)[98]
    report.add("line_painted_p99_ms", p99, "printed → painted, p99", "ms")


async def _long_log(page: Page, plane: Plane, admin: psycopg.Connection, report: Report) -> None:
    async with owner(plane.url, plane.anon_key, plane.user_token) as user:
        cluster = await user.register_cluster("long log")
    row = admin.execute(_statement("run"), {"cluster": cluster.cluster_id}).fetchone()
    assert row is not None
    run = {"run": row[0], "chunks": _LOG_CHUNKS}
    admin.execute(_statement("begin"), run)
    admin.execute(_statement("log"), run)
    screen = page.locator(".xterm-rows")
    started_at = time.perf_counter()
    await _show(page, f"{plane.url}/dashboard/#/provisions/{row[0]}")
    await expect(screen).to_contain_text(f"line {_LOG_CHUNKS * 100 - 1} ")
    report.add(
        "load_50mb_s", time.perf_counter() - started_at, "50 MB of log: opened, at its end", "s"
    )
    report.add(
        "load_longest_task_ms",
        await page.evaluate("bench.longest()"),
        "longest task meanwhile (0: none over 50 ms)",
        "ms",
    )
    started_at = time.perf_counter()
    await page.get_by_label("Search the log").fill("the needle")
    await expect(page.locator(".find-said")).to_have_text("1 of 1")
    await expect(screen).to_contain_text("the needle")
    report.add("search_50mb_s", time.perf_counter() - started_at, "all of it searched", "s")
    report.add(
        "search_longest_task_ms",
        await page.evaluate("bench.longest()"),
        "longest task meanwhile (0: none over 50 ms)",
        "ms",
    )
    heap_mb = await (await Metrics.of(page)).heap_mb()
    report.add("heap_50mb_mb", heap_mb, "JavaScript heap then", "MB")


async def _many_clusters(
    page: Page, plane: Plane, admin: psycopg.Connection, report: Report
) -> None:
    [owner_id] = admin.execute(b"select user_id from clusters limit 1").fetchone() or [None]
    admin.execute(_statement("clusters"), {"owner": owner_id, "count": _CLUSTERS})
    started_at = time.perf_counter()
    await _show(page, f"{plane.url}/dashboard/#/clusters")
    await expect(page.locator(".cluster")).to_have_count(_CLUSTERS + 2)
    report.add(
        "clusters_shown_s", time.perf_counter() - started_at, f"{_CLUSTERS} clusters: shown", "s"
    )
    await page.locator(".live-state[data-state=live]").wait_for()
    await page.evaluate("bench.longest()")
    metrics = await Metrics.of(page)
    busy_s = await metrics.busy_s()
    started_at = time.perf_counter()
    for number in range(1, _BEATS + 1):
        admin.execute(_statement("beat"), {"number": number})
        await anyio.sleep(_BEAT_S)
    last = page.locator(".cluster", has_text=f"cluster {_BEATS:04}").locator(".beat")
    await expect(last).to_have_text("now")
    took = time.perf_counter() - started_at
    share = (await metrics.busy_s() - busy_s) / took * 100
    report.add(
        "clusters_busy_percent",
        share,
        f"main thread busy, {1 / _BEAT_S:g} heartbeats a second",
        "%",
    )
    report.add(
        "clusters_longest_task_ms",
        await page.evaluate("bench.longest()"),
        "longest task meanwhile (0: none over 50 ms)",
        "ms",
    )


async def _measure(report: Report) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            _plane(folder / "plane") as plane,
            psycopg.connect(plane.database_url, autocommit=True) as admin,
        ):
            async with _page(plane) as page:
                await _lines(page, plane, folder, report)
                await _long_log(page, plane, admin, report)
                await _many_clusters(page, plane, admin, report)


def main() -> None:
    """Print the table and write the JSON file."""
    expect.set_options(timeout=_PATIENCE_MS)
    report = Report("dashboard", f"the dashboard in Chromium, on {os.cpu_count()} CPUs")
    anyio.run(_measure, report)
    report.finish()


if __name__ == "__main__":
    main()
