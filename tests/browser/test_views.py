"""What people do in each view, and what they see: acting, other users, looks, accessibility."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ColorScheme, expect

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status
from tests.browser.chromium import Dashboard, dashboard_in
from tests.browser.stored_runs import stored_run
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, killed, snapshot

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.timeout(240),
]

_SILENCE_MS = 150_000  # 90 s without a heartbeat, and somebody's next look
_BIG = 12345678901234567


@asynccontextmanager
async def looking(
    browser: Browser, plane: RunningPlane, *, width: int, theme: ColorScheme
) -> AsyncIterator[Dashboard]:
    context = await browser.new_context(
        viewport={"width": width, "height": 860}, color_scheme=theme
    )
    async with dashboard_in(context, plane) as dashboard:
        yield dashboard


def at(repo: str, path: str, **variables: object) -> dict[str, object]:
    source = {"repo": repo, "version": "v1", "path": path}
    return snapshot(repo, template_source=source, terraform_vars=variables)


async def test_a_killed_agent_is_seen_to_go_offline(
    signed_in: Dashboard, fleet: Fleet, cluster: Registration
) -> None:
    card = signed_in.page.locator(f'a[href="#/clusters/{cluster.cluster_id}"]')
    await expect(card).to_contain_text("Not seen yet")
    await signed_in.said_live()
    with fleet.agent() as agent:
        await expect(card).to_contain_text("Online")
        await expect(card.locator(".beat")).to_have_text(re.compile(r"now|\d s ago"))
        killed(agent)
    await expect(card).to_contain_text("Offline", timeout=_SILENCE_MS)


async def test_a_configuration_is_written_deployed_and_compared(
    signed_in: Dashboard, fleet: Fleet, user: Owner, repo: str
) -> None:
    page = signed_in.page
    with fleet.agent():
        await signed_in.open(f"/configurations/new?cluster={fleet.cluster.cluster_id}")
        await page.get_by_label("Name").fill("greeting")
        await page.get_by_label("Repository").fill(repo)
        await page.get_by_label("Version").fill("v1")
        await page.get_by_label("Folder").fill("hello")
        variables = page.get_by_label("Variables")
        await variables.fill('{"name": "test",}')
        await expect(page.get_by_text("Not JSON yet: line 1, column 17")).to_be_visible()
        await expect(page.get_by_role("button", name="Save")).to_be_disabled()
        await variables.fill('{"name": "test", "lines": 2, "pause_seconds": 0}')
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="greeting")).to_be_visible()
        configuration_url = page.url

        await page.get_by_role("button", name="Deploy").click()
        await page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        await expect(page.locator(".heading .badge")).to_have_text("Succeeded", timeout=30_000)
        await expect(page.locator(".facts")).to_contain_text("Commit")
        await expect(page.locator(".outputs")).to_contain_text("hello, test")

        await page.goto(configuration_url)
        await expect(page.locator(".diff-place")).to_contain_text("The same as what was applied")
        await variables.fill(f'{{"name": "test", "lines": 2, "pause_seconds": 0, "id": {_BIG}}}')
        await expect(page.locator(".diff ins")).to_contain_text(f'"id": {_BIG}')
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("button", name="Deploy")).to_be_enabled()
        await page.reload()
        await expect(variables).to_have_value(re.compile(str(_BIG)))
        await page.get_by_role("button", name="Deploy").click()
        await page.get_by_role("dialog").get_by_label("What to do").select_option("Plan")
        await page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        await expect(page.locator(".toasts")).to_contain_text("config_snapshot.terraform_vars.id")
        await expect(page.locator(".heading .badge")).to_have_text("Succeeded", timeout=30_000)


async def test_a_failed_run_says_why_and_what_to_do(
    signed_in: Dashboard, fleet: Fleet, user: Owner, repo: str
) -> None:
    page = signed_in.page
    with fleet.agent():
        provision_id = await user.create_provision(fleet.cluster.cluster_id, at(repo, "broken"))
        await signed_in.open(f"/provisions/{provision_id}")
        await ended(user, provision_id)
    trouble = page.locator(".trouble")
    await expect(trouble).to_contain_text("TERRAFORM_FAILED")
    await expect(trouble).to_contain_text("What to do:")
    await expect(page.locator(".steps [data-state=failed]")).to_contain_text("Apply")
    await page.get_by_role("button", name="First error").click()
    await expect(page.locator(".xterm-rows")).to_contain_text("Error: local-exec provisioner error")


async def test_a_run_is_cancelled_and_force_has_to_be_typed(
    signed_in: Dashboard, plane: RunningPlane, fleet: Fleet, user: Owner, repo: str
) -> None:
    page = signed_in.page
    with fleet.agent():
        provision_id = await user.create_provision(
            fleet.cluster.cluster_id, at(repo, "slow", until="/nowhere")
        )
        await signed_in.open(f"/provisions/{provision_id}")
        await expect(page.locator(".xterm-rows")).to_contain_text("line 3")
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await page.get_by_role("button", name="Cancel the run").click()
        assert (await ended(user, provision_id)).status is Status.CANCELLED
        await expect(page.locator(".heading .badge")).to_have_text("Cancelled")
    async with stored_run(plane.database_url, fleet.cluster.cluster_id) as run:
        await user.cancel_provision(run.id)
        await signed_in.open(f"/provisions/{run.id}")
        await page.get_by_role("button", name="Force").click()
        stop = page.get_by_role("button", name="Stop by force")
        await expect(stop).to_be_disabled()
        await page.get_by_label("Type “force” to confirm").fill("force")
        await stop.click()
        await expect(page.locator(".summary")).to_contain_text("stopped by force")


async def test_options_and_tokens_are_changed(
    signed_in: Dashboard, user: Owner, cluster: Registration
) -> None:
    page = signed_in.page
    await signed_in.open(f"/clusters/{cluster.cluster_id}")
    await page.get_by_label("Runs at once").fill("7")
    await page.get_by_role("button", name="Save").click()
    await page.get_by_label("Drain").check()
    await expect(page.locator(".toasts")).to_contain_text("Draining")
    await page.reload()
    await expect(page.get_by_label("Runs at once")).to_have_value("7")
    await expect(page.get_by_label("Drain")).to_be_checked()
    await page.get_by_role("button", name="Rotate").click()
    await page.get_by_role("button", name="Make it").click()
    fresh = await page.get_by_label("token", exact=True).text_content()
    assert fresh
    assert fresh != cluster.token
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("button", name="Revoke")).to_have_count(2)
    await page.get_by_role("button", name="Revoke").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    await expect(page.get_by_role("button", name="Revoke")).to_have_count(1)


async def test_another_user_sees_nothing_of_it(
    browser: Browser, plane: RunningPlane, user: Owner, cluster: Registration
) -> None:
    stranger = {"email": "stranger@example.com", "password": "something long"}
    async with httpx.AsyncClient(base_url=plane.url) as client:
        answer = await client.post(
            "/auth/v1/admin/users",
            json=stranger,
            headers={
                "apikey": plane.service_role_key,
                "authorization": f"Bearer {plane.service_role_key}",
            },
        )
        assert answer.status_code in (200, 422), answer.text  # 422: an earlier test made it
    async with (
        stored_run(plane.database_url, cluster.cluster_id) as run,
        looking(browser, plane, width=1280, theme="light") as dashboard,
    ):
        await run.append(["a secret of the first user\n"])
        await dashboard.sign_in(**stranger)
        await expect(dashboard.page.get_by_text("No cluster yet")).to_be_visible()
        await dashboard.open(f"/clusters/{cluster.cluster_id}")
        await expect(dashboard.page.get_by_text("There is no such cluster")).to_be_visible()
        await dashboard.open(f"/provisions/{run.id}")
        await expect(dashboard.page.get_by_text("There is no such provision")).to_be_visible()
        await run.append(["and another\n"])
        assert "secret" not in await dashboard.page.content()


async def test_a_link_signs_in_once(browser: Browser, plane: RunningPlane) -> None:
    async with looking(browser, plane, width=1280, theme="light") as dashboard:
        await dashboard.page.goto(plane.dashboard_url)
        await dashboard.page.get_by_role("button", name="Sign out").wait_for()
        assert "link" not in dashboard.page.url
    async with looking(browser, plane, width=1280, theme="light") as dashboard:
        await dashboard.page.goto(plane.dashboard_url)
        await expect(dashboard.page.get_by_text("That link was used already")).to_be_visible()
        await expect(dashboard.page.get_by_label("Password")).to_be_visible()
        dashboard.complaints.clear()


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [("light", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "dark")],
)
async def test_every_view_is_accessible_and_has_its_picture(
    browser: Browser,
    plane: RunningPlane,
    user: Owner,
    fleet: Fleet,
    repo: str,
    name: str,
    width: int,
    theme: ColorScheme,
) -> None:
    async with looking(browser, plane, width=width, theme=theme) as dashboard:
        page = dashboard.page
        findings: dict[str, list[str]] = {}

        async def judge(view: str) -> None:
            await dashboard.shoot(f"{view}-{name}")
            answer = await Axe().run(page)
            findings[view] = [
                f"{one['id']}: {one['nodes'][0]['html'][:200]}"
                for one in answer.response["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, f"{view} is wider than the screen"

        await dashboard.open("/clusters")
        await page.get_by_label("Email").wait_for()
        await judge("login")
        await dashboard.sign_in(**plane.users[0])
        with fleet.agent():
            cluster_id = fleet.cluster.cluster_id
            ids = [
                await user.create_provision(cluster_id, at(repo, path, **more))
                for path, more in (
                    ("hello", {"name": "test", "lines": 3, "pause_seconds": 0}),
                    ("broken", {}),
                    ("slow", {"until": str(fleet.folder / "until")}),
                )
            ]
            await ended(user, ids[1])
            await dashboard.said_live()
            await expect(page.locator(f'a[href="#/clusters/{cluster_id}"]')).to_contain_text(
                "1 agent"
            )
            await judge("clusters")
            await dashboard.open(f"/clusters/{cluster_id}")
            await expect(page.get_by_text("Running").first).to_be_visible()
            await judge("cluster")
            for view, provision_id, text in (
                ("run-succeeded", ids[0], "SUCCESS after"),
                ("run-failed", ids[1], "FAILED after"),
                ("run-running", ids[2], "line 5"),
            ):
                await dashboard.open(f"/provisions/{provision_id}")
                await expect(page.locator(".xterm-rows")).to_contain_text(text)
                await judge(view)
            (fleet.folder / "until").touch()
            await ended(user, ids[2])
        await page.get_by_role("link", name="Clusters").first.click()
        await page.get_by_role("button", name="Add a cluster").click()
        await judge("add-cluster")
        await page.keyboard.press("Escape")
        await dashboard.open("/configurations")
        await judge("configurations")
        await dashboard.open("/configurations/new")
        await page.get_by_label("Repository").wait_for()
        await judge("configuration")
        assert {view: found for view, found in findings.items() if found} == {}
