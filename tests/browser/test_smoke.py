"""The dashboard in a real browser, once through: what `make test` has time for."""

import re
from pathlib import Path

import pytest
from playwright.async_api import expect

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ClusterId
from tests.browser.chromium import Dashboard
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, log_text, snapshot

pytestmark = [pytest.mark.browser, pytest.mark.integration]


async def test_a_cluster_is_added_comes_alive_and_a_run_is_watched(
    signed_in: Dashboard, plane: RunningPlane, user: Owner, repo: str, tmp_path: Path
) -> None:
    page = signed_in.page
    await page.get_by_role("button", name="Add a cluster").click()
    await page.get_by_label("Name").fill("smoke")
    await page.get_by_role("button", name="Add", exact=True).click()
    token = await page.get_by_label("token", exact=True).text_content()
    await page.get_by_role("tab", name="Shell").click()
    command = await page.get_by_label("Shell command").first.text_content()
    found = re.search(r"TENDRIL_CLUSTER_ID='([0-9a-f-]{36})'", command or "")
    assert found
    assert token
    assert token in (command or "")
    await page.get_by_role("button", name="Done").click()
    card = page.locator(f'a[href="#/clusters/{found[1]}"]')
    await expect(card).to_contain_text("Not seen yet")
    await signed_in.said_live()

    cluster = Registration(ClusterId(found[1]), token)
    with Fleet(plane, cluster, tmp_path).agent():
        await expect(card).to_contain_text("Online", timeout=15_000)
        await expect(card).to_contain_text("1 agent")
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(repo))
        await signed_in.open(f"/provisions/{provision_id}")
        await expect(page.locator(".xterm-rows")).to_contain_text("hello, test: line 3 of 3")
        await ended(user, provision_id)
        await expect(page.locator(".heading .badge")).to_have_text("Succeeded")
        await expect(page.locator(".xterm-rows")).to_contain_text("SUCCESS after")
        assert await signed_in.log() == await log_text(user, provision_id)
