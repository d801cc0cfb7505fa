"""A browser, a page that is signed in as the owner, and agents to be seen in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tendril_rt.control.owner import Registration
from tests.browser.chromium import Dashboard, dashboard_in, launched
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, template_repo

SLOW = """
variable "until" { type = string }
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "i=0; while [ ! -e '${var.until}' ]; do i=$((i+1)); echo line $i; sleep 0.1; done"
  }
}
"""
BROKEN = """
resource "terraform_data" "broken" {
  provisioner "local-exec" { command = "echo about to fail >&2; exit 3" }
}
"""


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """A Chromium of this test's own."""
    async with launched() as running:
        yield running


@pytest_asyncio.fixture
async def signed_in(browser: Browser, plane: RunningPlane) -> AsyncIterator[Dashboard]:
    """A page of the owner."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    async with dashboard_in(context, plane) as dashboard:
        await dashboard.sign_in(**plane.users[0])
        yield dashboard


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("templates"), slow=SLOW, broken=BROKEN)
