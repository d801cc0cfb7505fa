"""A control plane that fails in mid-run: no line is lost, nothing runs twice.

A real proxy on loopback stands between agent and plane, and misbehaves while the run prints.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import ClientSession, web

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status, StreamType
from tests.conftest import RunningPlane
from tests.integration.agents import (
    Fleet,
    ended,
    eventually,
    log_text,
    snapshot,
    template_repo,
)

pytestmark = pytest.mark.integration

_LINES = 60
_OUTAGE_S = 1.5
_TIMEOUT_S = 2.0  # of the agent, for an answer
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _login_page(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>please sign in</html>", content_type="text/html")


async def _not_found(_: web.Request) -> web.StreamResponse:
    return web.Response(status=404, text="no such site")


async def _redirect(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "/login"})


async def _wrong_key(_: web.Request) -> web.StreamResponse:
    return web.json_response({"message": "Invalid API key"}, status=401)


async def _unavailable(_: web.Request) -> web.StreamResponse:
    return web.json_response({"code": "PGRST002", "message": "starting"}, status=503)


async def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class Proxy:
    """Hands requests on to the plane, or to *answer* while there is one."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.answer: Answer | None = None
        self.answered = 0
        self.swallows = False
        self.delay_s = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            self.answered += 1
            return await self.answer(request)
        body = await request.read()
        async with (
            ClientSession() as session,
            session.request(
                request.method, f"{self._target}{request.path_qs}", data=body,
                headers={k: v for k, v in request.headers.items() if k.lower() != "host"},
            ) as answer,
        ):  # fmt: skip
            content = await answer.read()
            if self.delay_s:  # the plane has acted, and nobody waits for its answer any more
                self.answered += 1
                await anyio.sleep(self.delay_s)
            if self.swallows:  # the plane has acted, and nobody hears of it
                self.answered += 1
                return await _hang_up(request)
            kind = {"Content-Type": answer.headers["Content-Type"]} if content else {}
            return web.Response(status=answer.status, body=content, headers=kind)


@asynccontextmanager
async def _proxy(target: str) -> AsyncIterator[tuple[Proxy, str]]:
    proxy = Proxy(target)
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", proxy.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield proxy, f"http://{host}:{port}"
    finally:
        with anyio.move_on_after(5, shield=True):
            await runner.cleanup()


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(tmp_path_factory.mktemp("talkative"))


async def _never(_: web.Request) -> web.StreamResponse:
    await anyio.sleep(60)
    raise AssertionError("nobody waits as long as this")


@pytest.mark.parametrize(
    "answer",
    [
        *(_never, _wrong_key, _unavailable, "answers_are_late"),
        *(
            pytest.param(answer, marks=pytest.mark.long)
            for answer in (_login_page, _not_found, _redirect, _hang_up, "answers_are_swallowed")
        ),
    ],
    ids=lambda answer: answer if isinstance(answer, str) else answer.__name__.strip("_"),
)
async def test_no_line_is_lost_and_nothing_runs_twice(
    plane: RunningPlane,
    cluster: Registration,
    user: Owner,
    repo: str,
    tmp_path: Path,
    answer: Answer | str,
) -> None:
    variables = {"name": "whole", "lines": _LINES, "pause_seconds": 0.03}
    async with _proxy(plane.url) as (proxy, url):
        fleet = Fleet(plane, cluster, tmp_path)
        with fleet.agent(
            SUPABASE_URL=url,
            TENDRIL_REALTIME="false",
            TENDRIL_POLL_INTERVAL_S="0.2",
            TENDRIL_REQUEST_TIMEOUT_S=str(_TIMEOUT_S),
        ) as agent:
            await agent.says("online")
            provision_id = await user.create_provision(
                cluster.cluster_id, snapshot(repo, terraform_vars=variables)
            )

            async def underway() -> bool | None:
                return "line 3 of" in await log_text(user, provision_id) or None

            await eventually(underway, "no output", lambda: agent.log)
            proxy.answer = None if isinstance(answer, str) else answer
            proxy.swallows = answer == "answers_are_swallowed"
            proxy.delay_s = _TIMEOUT_S * 1.5 if answer == "answers_are_late" else 0.0
            await anyio.sleep(_OUTAGE_S)
            assert proxy.answered > 0
            proxy.answer, proxy.swallows, proxy.delay_s = None, False, 0.0
            state = await ended(user, provision_id)
            agent.signal(signal.SIGTERM)
            assert await agent.exit_code() == 0  # while the proxy, in this loop, still answers

    assert (state.status, state.attempt) == (Status.SUCCESS, 1), state.error_message
    text = await log_text(user, provision_id, StreamType.STDOUT)
    printed = [line for line in text.splitlines() if "whole: line" in line]
    assert [line.split("whole: ")[1] for line in printed] == [
        f"line {number} of {_LINES}" for number in range(1, _LINES + 1)
    ]
