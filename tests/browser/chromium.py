"""A real Chromium that opens the dashboard, and pages that fail a test by what they complain of."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.conftest import RunningPlane

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
NOT_INSTALLED = "no Chromium on PATH (Debian: apt install chromium): the dashboard is not tried"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OFFLINE = re.compile(r"net::ERR_|WebSocket connection to|Failed to load resource")


@dataclass
class Dashboard:
    """A page of the dashboard.

    :ivar complaints: errors of scripts and of the security policy, which fail the test
    """

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _OFFLINE.search(message.text):
            self.complaints.append(message.text)

    async def open(self, view: str = "") -> None:
        """Go to a view: its address behind the ``#``."""
        await self.page.goto(f"{self.base}#{view}")

    async def sign_in(self, email: str, password: str) -> None:
        """Sign in as people do."""
        await self.open("/clusters")
        await self.page.get_by_label("Email").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.get_by_role("button", name="Sign out").wait_for()

    async def said_live(self) -> None:
        """Wait until the page says that it hears of changes."""
        await self.page.locator(".live-state[data-state=live]").wait_for()

    async def log(self) -> str:
        """Return the log as the page downloads it."""
        async with self.page.expect_download() as waiting:
            await self.page.get_by_role("button", name="Download").click()
        path = await (await waiting.value).path()
        return path.read_text()

    async def screen(self) -> str:
        """Return what is painted in the terminal."""
        rows = await self.page.locator(".xterm-rows > div").all_text_contents()
        return "\n".join(row.replace("\u00a0", " ").rstrip() for row in rows)

    async def shoot(self, name: str) -> None:
        """Keep a picture."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        await self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


def chromium() -> str:
    """Return the program; skip the test where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(NOT_INSTALLED)
    return found


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Run a Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-dev-shm-usage"],  # CI runs as root, in little memory
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def dashboard_in(
    context: BrowserContext, plane: RunningPlane, base: str | None = None
) -> AsyncIterator[Dashboard]:
    """Open a page; when the block ends it must not have complained."""
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = await context.new_page()
    page.set_default_timeout(20_000)
    dashboard = Dashboard(page, base or f"{plane.url}/dashboard/")
    page.on("console", dashboard.hear)
    page.on("pageerror", lambda error: dashboard.complaints.append(str(error)))
    yield dashboard
    assert dashboard.complaints == []
