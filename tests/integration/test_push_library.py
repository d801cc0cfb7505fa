"""What we rely on in the ``realtime`` package, and that nothing of its sessions is left behind."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path as FilePath

import anyio
import pytest
import pytest_asyncio
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient
from realtime import __version__ as version

from tendril_rt.control import realtime
from tendril_rt.control.channel import of_cluster
from tendril_rt.control.push import Path, SessionFailed

from .agents import eventually
from .phoenix_server import PhoenixServer, Wire
from .push_agents import CLUSTER_ID, control_settings, open_sockets

pytestmark = pytest.mark.integration

_RECORDINGS = FilePath(__file__).parents[1] / "conformance" / "recordings" / "realtime"
_SESSIONS = 200


@pytest_asyncio.fixture
async def server() -> AsyncIterator[PhoenixServer]:
    async with PhoenixServer.running() as running:
        yield running


def _ignore(_: object) -> None: ...


def _opened(
    url: str, paths: Iterable[Path] = Path
) -> AbstractAsyncContextManager[realtime.Session]:
    settings = control_settings(url)
    channel = of_cluster(settings.cluster_id, frozenset(paths))
    return realtime.opened(settings, channel, within_s=5, on_ready=_ignore, on_heard=_ignore)


def _so(is_so: Callable[[], bool]) -> Callable[[], Awaitable[bool | None]]:
    async def look() -> bool | None:
        return is_so() or None

    return look


async def _join_once(url: str, paths: frozenset[Path] = frozenset(Path)) -> None:
    async with _opened(url, paths) as session:
        await session.join("token", within_s=5)


async def test_the_names_beyond_the_librarys_promise_are_what_we_take_them_for(
    server: PhoenixServer,
) -> None:
    """If this fails the library changed: read its source again before trusting push."""
    client = AsyncRealtimeClient(f"{server.url}/realtime/v1", token="anon", auto_reconnect=False)
    await client.connect()
    channel = client.channel("x")
    try:
        assert isinstance(client._listen_task, asyncio.Task), version
        assert isinstance(client._heartbeat_task, asyncio.Task), version
        assert client._ws_connection is not None, version
        assert isinstance(client._ws_connection.transport, asyncio.Transport), version
        assert channel._background_tasks == set(), version
        assert channel.messages_waiting_for_ack == {}, version
        assert channel.rejoin_timer.timer is None, version
        assert channel.join_push.timeout_task is None, version
        assert callable(AsyncRealtimeChannel._handle_message), version
    finally:
        with anyio.move_on_after(5, shield=True):
            await client.close()


async def test_replies_to_our_heartbeats_are_seen(server: PhoenixServer) -> None:
    """Else every healthy session would be taken for a dead one."""
    async with _opened(server.url, Path) as session:
        await session.join("token", within_s=5)
        with anyio.move_on_after(10) as patience:
            async with anyio.create_task_group() as tasks:

                async def stop_after_some() -> None:
                    await eventually(_so(lambda: server.heartbeats >= 4), "no heartbeats")
                    tasks.cancel_scope.cancel()

                tasks.start_soon(stop_after_some)
                await session.keep_beating(interval_s=0.01, reply_within_s=5)
        assert not patience.cancelled_caught
        assert session.fault is None
        assert server.heartbeats >= 4


@pytest.mark.parametrize(
    ("paths", "recording"),
    [
        (frozenset(Path), "broadcast_private"),
        (frozenset({Path.BROADCAST}), "broadcast_private"),
        (frozenset({Path.CHANGES}), "join_insert_filter"),
    ],
)
async def test_joins_are_worded_as_recorded(
    server: PhoenixServer, paths: frozenset[Path], recording: str
) -> None:
    recorded = json.loads((_RECORDINGS / f"{recording}.json").read_text())["steps"][0]["frame"]
    await _join_once(server.url, paths)
    (join,) = server.joins
    assert join.keys() == {"config", "access_token"}
    config, expected = join["config"], recorded["payload"]["config"]
    assert isinstance(config, dict)
    bindings = config.pop("postgres_changes")
    expected.pop("postgres_changes")
    assert config == expected
    insert = {"event": "INSERT", "schema": "public", "table": "provisions"}
    wanted = [{**insert, "filter": f"cluster_id=eq.{CLUSTER_ID}"}]
    assert bindings == (wanted if Path.CHANGES in paths else [])


def _healthy(server: PhoenixServer) -> None:
    assert not server.behaviour.join_errors


def _closed(server: PhoenixServer) -> None:
    server.behaviour.closes_after = "ready"


def _refused(server: PhoenixServer) -> None:
    server.behaviour.join_errors = ["ClientJoinRateLimitReached: Too many joins per second"]


def _unanswered(server: PhoenixServer) -> None:
    server.behaviour.answers_joins = False


async def _one_session(server: PhoenixServer, prepare: Callable[[PhoenixServer], None]) -> None:
    """Run one session to its end under one fault."""
    prepare(server)
    within_s = 0.02 if prepare is _unanswered else 5.0
    try:
        async with _opened(server.url, Path) as session:
            await session.join("token", within_s=within_s)
            await session.renew("another")  # leaves a time-out of its own in the library
    except SessionFailed:
        assert prepare is not _healthy
    server.behaviour = type(server.behaviour)()


async def test_no_task_and_no_socket_is_left_after_many_sessions(server: PhoenixServer) -> None:
    kinds = (_healthy, _closed, _refused, _unanswered)
    for prepare in kinds:  # whatever is made once is made now
        await _one_session(server, prepare)
    await _nobody_is_left(server)
    tasks, sockets = len(asyncio.all_tasks()), open_sockets()
    for number in range(_SESSIONS):
        await _one_session(server, kinds[number % len(kinds)])
    await _nobody_is_left(server)
    assert len(asyncio.all_tasks()) <= tasks
    assert open_sockets() <= sockets


def _library_tasks() -> list[str]:
    """Return the tasks that the library and its websockets have made."""
    codes = [getattr(task.get_coro(), "cr_code", None) for task in asyncio.all_tasks()]
    return [
        code.co_qualname
        for code in codes
        if code and ("/realtime/_async/" in code.co_filename or "/websockets/" in code.co_filename)
    ]


async def _nobody_is_left(server: PhoenixServer) -> None:
    """Wait until the server, too, is done with its ends."""
    await eventually(_so(lambda: not server.clients), "the server still has clients")
    await anyio.sleep(0.05)  # their handlers end in the next turns


async def test_a_close_that_nobody_answers_takes_three_seconds_at_most(
    server: PhoenixServer,
) -> None:
    async with Wire.to(server.url) as wire:
        with anyio.fail_after(5):
            async with _opened(wire.url, Path) as session:
                await session.join("token", within_s=5)
                wire.is_silent = True
        assert not _library_tasks()


async def test_a_session_may_be_cancelled_at_any_moment(server: PhoenixServer) -> None:
    """Every point at which it waits is hit once; nothing is left of it."""
    await _join_once(server.url)
    await _nobody_is_left(server)
    tasks, sockets = len(asyncio.all_tasks()), open_sockets()
    for number in range(60):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_after, number, scope)
                await _join_once(server.url)
    await _nobody_is_left(server)
    assert len(asyncio.all_tasks()) <= tasks
    assert open_sockets() <= sockets


async def _cancel_after(turns: int, scope: anyio.CancelScope) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    scope.cancel()
