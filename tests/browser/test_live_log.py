"""The terminal under everything that goes wrong: no line is lost, none comes twice."""

import json
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import anyio
import orjson
import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tendril_rt.control.owner import Owner, Registration, owner
from tendril_rt.model import ProvisionId, Status
from tests.browser.chromium import Dashboard, dashboard_in
from tests.browser.stored_runs import stored_run
from tests.chaos.proxy import Mode, proxying
from tests.conftest import TENDRIL, RunningPlane
from tests.integration.agents import Fleet, ended, eventually, log_text, snapshot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.timeout(240),
]

_LINE = re.compile(r"\(local-exec\): line (\d+)")


def terminal(page: Page) -> Locator:
    return page.locator(".xterm-rows")


class Slow:
    """A run that prints a line every 0.1 s until it is let go."""

    def __init__(self, user: Owner, provision_id: ProvisionId, until: Path) -> None:
        self._user = user
        self.id = provision_id
        self.until = until

    async def stored_lines(self, at_least: int) -> list[int]:
        """Wait until so many lines are stored; return the numbers of all."""

        async def look() -> list[int] | None:
            numbers = [int(n) for n in _LINE.findall(await log_text(self._user, self.id))]
            return numbers if len(numbers) >= at_least else None

        return await eventually(look, "the run does not print")

    async def let_go(self) -> None:
        self.until.touch()
        state = await ended(self._user, self.id)
        assert state.status is Status.SUCCESS


@asynccontextmanager
async def slow_run(user: Owner, fleet: Fleet, repo: str) -> AsyncIterator[Slow]:
    until = fleet.folder / "until"
    configuration = snapshot(repo)
    configuration["template_source"] = {"repo": repo, "version": "v1", "path": "slow"}
    configuration["terraform_vars"] = {"until": str(until)}
    with fleet.agent():
        try:
            yield Slow(
                user, await user.create_provision(fleet.cluster.cluster_id, configuration), until
            )
        finally:
            until.touch()


async def assert_whole(dashboard: Dashboard, user: Owner, run: Slow) -> None:
    """The page has the log exactly as it is stored, and shows each of its last lines once."""
    stored = await log_text(user, run.id)
    await expect(terminal(dashboard.page)).to_contain_text("SUCCESS after")
    assert await dashboard.log() == stored
    numbers = [int(n) for n in _LINE.findall(stored)]
    assert numbers == list(range(1, len(numbers) + 1))
    shown = [int(n) for n in _LINE.findall(await dashboard.screen())]
    assert shown
    assert shown == numbers[-len(shown) :]


async def test_lines_are_painted_within_a_second_of_being_printed(
    signed_in: Dashboard, plane: RunningPlane, user: Owner, cluster: Registration
) -> None:
    async with stored_run(plane.database_url, cluster.cluster_id) as run:
        await signed_in.open(f"/provisions/{run.id}")
        await signed_in.said_live()
        lags = []
        for number in range(20):
            stamp = time.monotonic()
            await run.append([f"line {number} of the day\n"])
            await expect(terminal(signed_in.page)).to_contain_text(f"line {number} of the day")
            lags.append(time.monotonic() - stamp)
        assert median(lags) < 1.0


async def test_a_reload_in_mid_run_loses_and_doubles_nothing(
    signed_in: Dashboard, user: Owner, fleet: Fleet, repo: str
) -> None:
    async with slow_run(user, fleet, repo) as run:
        await signed_in.open(f"/provisions/{run.id}")
        await run.stored_lines(10)
        await expect(terminal(signed_in.page)).to_contain_text("line 10")
        await signed_in.page.reload()
        await expect(terminal(signed_in.page)).to_contain_text("line 10")
        seen = await run.stored_lines(20)
        await expect(terminal(signed_in.page)).to_contain_text(f"line {seen[-1]}")
        await run.let_go()
        await assert_whole(signed_in, user, run)


async def test_a_cut_socket_is_said_and_made_up_for(
    browser: Browser, plane: RunningPlane, user: Owner, fleet: Fleet, repo: str
) -> None:
    async with (
        proxying(urlsplit(plane.url).port or 0) as proxy,
        slow_run(user, fleet, repo) as run,
    ):
        context = await browser.new_context()
        base = f"http://127.0.0.1:{proxy.port}/dashboard/"
        async with dashboard_in(context, plane, base) as dashboard:
            await dashboard.sign_in(**plane.users[0])
            await dashboard.open(f"/provisions/{run.id}")
            await expect(terminal(dashboard.page)).to_contain_text("line 3")
            state = dashboard.page.locator(".live-state")
            for _ in range(2):
                proxy.become(Mode.CUT)
                await expect(state).to_have_text(re.compile("Polling|Offline"))
                cut_at = (await run.stored_lines(1))[-1]
                await run.stored_lines(cut_at + 15)
                proxy.become(Mode.PASS)
                await expect(terminal(dashboard.page)).to_contain_text(f"line {cut_at + 15}")
                await dashboard.said_live()
            await run.let_go()
            await assert_whole(dashboard, user, run)


async def test_a_paused_terminal_stands_still_and_catches_up(
    signed_in: Dashboard, plane: RunningPlane, cluster: Registration
) -> None:
    page = signed_in.page
    async with stored_run(plane.database_url, cluster.cluster_id) as run:
        await run.append([f"early {n}\n" for n in range(100)])
        await signed_in.open(f"/provisions/{run.id}")
        await expect(terminal(page)).to_contain_text("early 99")
        await signed_in.said_live()
        await page.get_by_role("button", name="Pause").click()
        before = await signed_in.screen()
        await run.append([f"late {n}\n" for n in range(50)])
        await expect(page.get_by_role("button", name="50 new lines")).to_be_visible()
        assert await signed_in.screen() == before
        await page.get_by_role("button", name="Follow").click()
        await expect(terminal(page)).to_contain_text("late 49")
        await run.append(["and on\n"])
        await expect(terminal(page)).to_contain_text("and on")


async def test_a_true_hole_is_shown_as_one(
    signed_in: Dashboard, plane: RunningPlane, cluster: Registration
) -> None:
    async with stored_run(plane.database_url, cluster.cluster_id) as run:
        await run.append(["one\n"])
        await signed_in.open(f"/provisions/{run.id}")
        await expect(terminal(signed_in.page)).to_contain_text("one")
        await signed_in.said_live()
        await run.append(["five\n"], hole=3)
        await expect(terminal(signed_in.page)).to_contain_text("chunks 1 to 3 are missing")
        await expect(terminal(signed_in.page)).to_contain_text("five")


async def test_a_long_log_is_searched_and_read_from_end_to_start(
    signed_in: Dashboard, plane: RunningPlane, cluster: Registration
) -> None:
    page = signed_in.page
    async with stored_run(plane.database_url, cluster.cluster_id) as run:
        lines = [f"line {n} of many {'.' * 60}" for n in range(60_000)]
        lines[123] = "the only needle \x1b[31mred\x1b[0m"
        lines[40_000] = "Error: what went wrong first"
        lines[50_000] = "Error: what went wrong then"
        for at in range(0, len(lines), 1000):
            chunks = ["\n".join(lines[n : n + 100]) + "\n" for n in range(at, at + 1000, 100)]
            await run.append(chunks)
        await run.end()
        await signed_in.open(f"/provisions/{run.id}")
        await expect(terminal(page)).to_contain_text("line 59999 ")
        await page.get_by_label("Search the log").fill("NEEDLE")
        await expect(terminal(page)).to_contain_text("the only needle red")
        await expect(page.locator(".find-said")).to_have_text("1 of 1")
        await page.get_by_role("button", name="First error").click()
        await expect(terminal(page)).to_contain_text("what went wrong first")
        await page.get_by_role("button", name="Start of the log").click()
        await expect(terminal(page)).to_contain_text("line 0 of many")
        await page.get_by_role("button", name="Follow").click()
        await expect(terminal(page)).to_contain_text("line 59999 ")
        await page.locator(".xterm-helper-textarea").focus()
        for _ in range(2):  # over the start of the window, twice
            first = await page.locator(".terminal").get_attribute("data-first")
            await page.keyboard.press("Home")
            await expect(page.locator(".terminal")).not_to_have_attribute("data-first", first or "")
            numbers = [int(n) for n in re.findall(r"line (\d+) of many", await signed_in.screen())]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert await signed_in.log() == "\n".join(lines) + "\n"


@pytest.fixture
def impatient_plane(tmp_path: Path) -> Iterator[RunningPlane]:
    """A control plane whose access tokens are good for ten seconds."""
    argv = [*TENDRIL, "dev", "--json", "--data", str(tmp_path / "plane"), "--token-life-s", "10"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield RunningPlane(**orjson.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


async def test_tokens_are_renewed_without_a_lost_line(
    browser: Browser, impatient_plane: RunningPlane
) -> None:
    plane = impatient_plane
    context = await browser.new_context()
    async with (
        owner(plane.url, plane.anon_key, plane.user_token) as user,
        dashboard_in(context, plane) as dashboard,
    ):
        cluster = await user.register_cluster("impatient")
        async with stored_run(plane.database_url, cluster.cluster_id) as run:
            await dashboard.sign_in(**plane.users[0])
            await dashboard.open(f"/provisions/{run.id}")
            await dashboard.said_live()
            tokens = set()
            for number in range(150):
                await run.append([f"line {number}\n"])
                await anyio.sleep(0.2)  # thirty seconds of output: three lives of a token
                tokens.add(await dashboard.page.evaluate("JSON.stringify({...localStorage})"))
            await expect(terminal(dashboard.page)).to_contain_text("line 149", timeout=20_000)
            kept = {json.loads(text)[f"tendril:{plane.url}"] for text in tokens}
            assert len(kept) > 1, "no token was renewed"
            shown = [int(n) for n in re.findall(r"line (\d+)", await dashboard.screen())]
            assert shown == list(range(150))[-len(shown) :]
            assert await dashboard.log() == "".join(f"line {n}\n" for n in range(150))
