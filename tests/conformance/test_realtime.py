"""Realtime of the embedded control plane: the recorded frames, and what no recording shows."""

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import anyio
import psycopg
import pytest
from aiohttp import ClientSession, WSMsgType
from psycopg import sql
from realtime import AsyncRealtimeClient, RealtimePostgresChangesListenEvent

from tendril_rt.local import postgres
from tendril_rt.local.gateway.app import GatewayConfig, serving

from . import realtime_scenarios as scenarios

pytestmark = pytest.mark.conformance

OUT_OF_SCOPE = {
    "broadcast_client": "no client of ours sends a broadcast: it is refused by name",
    "handshake: unknown tenant": "the embedded control plane is one project",
}
_HANDSHAKES = [
    case for case in scenarios.handshakes() if f"handshake: {case['name']}" not in OUT_OF_SCOPE
]
_CLUSTER_A = "00000000-0000-4000-8000-00000000000a"
_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


@pytest.mark.parametrize("name", [name for name in scenarios.names() if name not in OUT_OF_SCOPE])
async def test_frames_are_as_recorded(name: str, server: postgres.Server, idle_url: str) -> None:
    steps = scenarios.load(name)["steps"]
    url = scenarios.copy(server) if any("sql" in step for step in steps) else idle_url
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.play(steps, url)


@pytest.mark.parametrize(
    "name",
    [
        *("heartbeat", "join_insert_filter", "duplicate_join", "access_token_refresh", "leave"),
        *("broadcast_private", "broadcast_private_own_id", "broadcast_public"),
        *("broadcast_private_refused", "broadcast_replay"),
    ],
)
async def test_frames_travel_as_arrays_for_clients_that_want_them(
    name: str, server: postgres.Server
) -> None:
    """What supabase-js speaks; not recorded, but the same exchange in another form."""
    url = scenarios.copy(server)
    async with scenarios.serving(url) as base, scenarios.connected(base, vsn="2.0.0") as player:
        await player.play(scenarios.load(name)["steps"], url)


def test_every_recording_is_replayed_or_named() -> None:
    named = {name for name in OUT_OF_SCOPE if not name.startswith("handshake")}
    assert named <= set(scenarios.names())


@pytest.mark.parametrize("case", _HANDSHAKES, ids=lambda case: case["name"])
async def test_handshake_is_as_recorded(case: scenarios.Handshake, idle_url: str) -> None:
    is_upgrade = case["name"] != "not a websocket request"
    headers = {**case["request"]["headers"], **(_UPGRADE if is_upgrade else {})}
    headers = {name: scenarios.with_tokens(value) for name, value in headers.items()}
    path = scenarios.with_tokens(case["request"]["path"])
    async with (
        scenarios.serving(idle_url) as base,
        ClientSession() as session,
        session.get(base + path, headers=headers) as answer,
    ):
        wanted = case["response"]
        assert answer.status == wanted["status"]
        if answer.status != 101:
            assert await answer.text() == wanted["body"]
        for name, value in wanted["headers"].items():
            assert answer.headers[name] == value


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        ({"presence": {"key": "", "enabled": True}}, "presence"),
        ({"postgres_changes": [{"table": "rt_default", "select": ["id"]}]}, "`select`"),
    ],
)
async def test_a_join_for_more_is_refused_by_name(
    config: dict[str, object], feature: str, idle_url: str
) -> None:
    join = {"topic": "realtime:more", "event": "phx_join", "ref": "1", "join_ref": "1"}
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        await player.send({**join, "payload": {"config": config}})
        answer = await player.receive()
        assert answer["payload"] == {
            "status": "error",
            "response": {
                "reason": f"NotOffered: {feature} is not offered by the embedded control plane"
            },
        }


async def test_a_broadcast_is_refused_and_the_channel_lives_on(url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.subscribe("b", scenarios.token("anon"), table="rt_default")
        await player.send({"topic": "realtime:b", "event": "broadcast", "payload": {}, "ref": "2"})
        assert "broadcast is not offered" in str(await player.receive())
        await _insert(url, "rt_default", [1])
        assert (await player.change())["record"]


@pytest.mark.parametrize("frame", ["{", "[]", '{"topic": 1}'])
async def test_a_frame_that_is_none_ends_the_connection(frame: str, idle_url: str) -> None:
    async with scenarios.serving(idle_url) as base, ClientSession() as session:
        address = f"{base}/socket/websocket?apikey={scenarios.token('anon')}"
        async with session.ws_connect(address) as socket:
            await socket.send_str(frame)
            assert (await socket.receive()).type is WSMsgType.CLOSE
            assert socket.close_code == 1007


async def test_the_supabase_client_gets_an_insert_through_the_gateway(url: str) -> None:
    send, receive = anyio.create_memory_object_stream[object](1)
    ready = anyio.Event()
    anon_key = scenarios.token("anon")
    config = GatewayConfig(
        admin_url=url,
        authenticator_url=url,
        jwt_secret=scenarios.SECRET,
        anon_key=anon_key,
        service_role_key="unused",
    )
    async with serving(config) as base, send, receive:
        address = f"{base.replace('http', 'ws')}/realtime/v1"
        client = AsyncRealtimeClient(address, anon_key, auto_reconnect=False)
        await client.connect()
        channel = client.channel("provisions")
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            send.send_nowait,
            table="rt_default",
            filter="status=eq.queued",
        )
        channel.on_system(lambda _: ready.set())
        await channel.subscribe()
        with anyio.fail_after(10):
            await ready.wait()
            await _insert(url, "rt_default", [7])
            assert "'id': 7" in str(await receive.receive())
        await client.close()


async def test_every_commit_after_subscribed_is_delivered(url: str) -> None:
    count = 200
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.subscribe("all", scenarios.token("anon"), table="rt_rls")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_insert, url, "rt_rls", range(count))
            seen = [(await player.change())["record"] for _ in range(count)]
        assert [row["id"] for row in seen if isinstance(row, dict)] == list(range(count))


async def test_a_change_that_is_streamed_before_it_is_visible_is_not_lost(url: str) -> None:
    async with (
        scenarios.serving(url) as base,
        scenarios.connected(base) as player,
        anyio.create_task_group() as tasks,
    ):
        await player.subscribe("v", scenarios.token("anon"), table="rt_rls")
        with scenarios.commits_half_done(url):
            tasks.start_soon(_insert, url, "rt_rls", [1])
            await player.expect_silence()
        assert await player.change()


async def test_a_policy_that_raises_harms_only_its_own_token(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute(
            "create policy cast_claim on public.rt_hidden for select to anon using (cluster_id ="
            " (current_setting('request.jwt.claims', true)::jsonb ->> 'cluster_id')::uuid)"
        )
    async with (
        scenarios.serving(url) as base,
        scenarios.connected(base) as bad,
        scenarios.connected(base) as good,
    ):
        await bad.subscribe("bad", scenarios.token("agent_a", cluster_id="x"), table="rt_hidden")
        await good.subscribe("good", scenarios.token("agent_a"), table="rt_hidden")
        for row in (1, 2):
            await _insert(url, "rt_hidden", [row])
            assert (await good.change())["errors"] is None
        await bad.expect_silence()


async def test_each_subscriber_of_one_topic_sees_its_own_rows(url: str) -> None:
    async with (
        scenarios.serving(url) as base,
        scenarios.connected(base) as first,
        scenarios.connected(base) as second,
    ):
        await first.subscribe("same", scenarios.token("agent_a"), table="rt_claim")
        await second.subscribe("same", scenarios.token("agent_b"), table="rt_claim")
        await _insert(url, "rt_claim", [1])
        assert (await first.change())["type"] == "INSERT"
        await second.expect_silence()


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ("id=eq.7", True),
        ("id=eq.07", True),
        ("id=in.(6,7)", True),
        ("id=in.(6,8)", False),
        ("status=in.()", False),
        ("payload=eq.1", False),
    ],
)
async def test_a_filter_holds_as_in_postgres(condition: str, matches: bool, url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.subscribe("f", scenarios.token("anon"), table="rt_default", filter=condition)
        await _insert(url, "rt_default", [7])
        if matches:
            assert await player.change()
        else:
            await player.expect_silence()


@pytest.mark.parametrize(
    ("condition", "parts"),
    [
        ("id=gt.6", '["gt", "6"]'),
        ("id=not.eq.6", '["not", "eq.6"]'),
        ("id=in.6", '["in", "6"]'),
        ("id=eq.6,id=eq.7", '["eq", "6,id=eq.7"]'),
        ("id", '["", ""]'),
    ],
)
async def test_a_filter_beyond_eq_and_in_is_refused(
    condition: str, parts: str, idle_url: str
) -> None:
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        await player.join("f", scenarios.token("anon"), table="rt_default", filter=condition)
        refusal = (await player.receive())["payload"]
        assert isinstance(refusal, dict)
        assert refusal["message"] == f"Error parsing `filter` params: {parts}"


async def test_a_binding_without_table_is_refused(idle_url: str) -> None:
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        await player.join("any", scenarios.token("anon"))
        assert "Unable to subscribe" in str(await player.receive())


async def test_a_filter_that_cannot_be_cast_is_refused(idle_url: str) -> None:
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        anon = scenarios.token("anon")
        await player.join("f", anon, table="rt_default", filter="cluster_id=eq.x")
        refusal = str(await player.receive())
        assert "ERROR 22P02 (invalid_text_representation)" in refusal
        assert 'invalid input syntax for type uuid: "x"' in refusal


async def test_values_are_as_postgres_words_them(url: str) -> None:
    large = "x" * 20_000
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute(
            "create type public.mood as enum ('glad');"
            "create table public.kinds (id int primary key, at timestamptz, numbers int[],"
            " amount numeric(9,2), mood public.mood, is_on boolean, large text, raw jsonb);"
            "alter table public.kinds alter large set storage external;"
            "alter table public.kinds replica identity full;"
            "alter publication supabase_realtime add table public.kinds"
        )
        async with scenarios.serving(url) as base, scenarios.connected(base) as player:
            await player.subscribe("k", scenarios.token("anon"), table="kinds")
            await database.execute(
                "insert into public.kinds values (1, '2026-01-02 03:04:05.678+02', '{1,2}', 1.50,"
                """ 'glad', true, %s, '{"a": [1.0, "é"]}')""",
                [large],
            )
            record = {
                "id": 1,
                "at": "2026-01-02T01:04:05.678+00:00",
                "numbers": [1, 2],
                "amount": 1.5,
                "mood": "glad",
                "is_on": True,
                "large": large,
                "raw": {"a": [1.0, "é"]},
            }
            assert (await player.change())["record"] == record
            await database.execute("update public.kinds set is_on = false")
            change = await player.change()
            assert change["old_record"] == record
            assert change["record"] == {**record, "is_on": False}, "unchanged large values stay"


async def test_names_may_hold_anything(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute(
            '''create table public."a""b%s" ("k""%s" int primary key, "c;--" text);
            alter table public."a""b%s" enable row level security;
            create policy all_rows on public."a""b%s" for select to anon using (true);
            alter publication supabase_realtime add table public."a""b%s"'''
        )
        async with scenarios.serving(url) as base, scenarios.connected(base) as player:
            binding = {"table": 'a"b%s', "filter": "c;--=eq.x' or true"}
            await player.subscribe("n", scenarios.token("anon"), **binding)
            await database.execute(
                """insert into public."a""b%s" values (1, 'x'), (2, $$x' or true$$)"""
            )
            assert (await player.change())["record"] == {'k"%s': 2, "c;--": "x' or true"}
            await player.expect_silence()


async def test_changes_wait_for_the_tick_of_a_poller(url: str) -> None:
    interval_s = 0.4
    async with (
        scenarios.serving(url, changes_interval_s=interval_s) as base,
        scenarios.connected(base) as player,
    ):
        await player.subscribe("p", scenarios.token("anon"), table="rt_default")
        await _insert(url, "rt_default", [1])
        change = await player.change()
        arrived_at = time.time()
        committed_at = datetime.fromisoformat(str(change["commit_timestamp"])).timestamp()
        assert arrived_at // interval_s > committed_at // interval_s


async def test_a_client_that_does_not_read_is_hung_up_on_and_slows_nobody(url: str) -> None:
    count, width = 60, 500_000  # more than sockets and our backlog hold together
    async with (
        scenarios.serving(url) as base,
        scenarios.connected(base) as reader,
        scenarios.connected(base) as stalled,
    ):
        await stalled.subscribe("s", scenarios.token("anon"), table="rt_default")
        await reader.subscribe("r", scenarios.token("anon"), table="rt_default")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_insert, url, "rt_default", range(count), "x" * width)
            for _ in range(count):
                await reader.change()
        assert await stalled.frames_until_closed() < count
        await _insert(url, "rt_default", [count])
        assert await reader.change()


async def test_events_flow_again_after_a_restart_of_postgres(tmp_path: Path) -> None:
    async with AsyncExitStack() as first_life:
        server = await first_life.enter_async_context(postgres.running(tmp_path / "plane"))
        scenarios.prepare(server)
        url = server.url("fresh")
        async with scenarios.serving(url) as base, scenarios.connected(base) as player:
            await player.subscribe("r", scenarios.token("agent_a"), table="rt_claim")
            await _insert(url, "rt_claim", [1])
            assert await player.change()
            await first_life.aclose()
            await player.expect_silence()
            async with postgres.running(tmp_path / "plane", port=server.port):
                await player.expect_subscribed()
                await _insert(url, "rt_claim", [2])
                assert await player.change()


async def test_a_join_waits_for_a_postgres_that_is_down(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "plane") as server:
        scenarios.prepare(server)
        url = server.url("fresh")
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.join("r", scenarios.token("agent_a"), table="rt_claim")
        await player.expect_silence()
        async with postgres.running(tmp_path / "plane", port=server.port):
            await player.expect_subscribed()
            await _insert(url, "rt_claim", [1])
            assert await player.change()


async def test_clients_that_come_and_go_at_any_moment_harm_nobody(url: str) -> None:
    count = 40

    async def come_and_go(base: str, number: int) -> None:
        with anyio.move_on_after(number * 0.002):
            async with scenarios.connected(base) as player:
                await player.subscribe("c", scenarios.token("anon"), table="rt_rls")
                await player.change()

    async with scenarios.serving(url) as base, scenarios.connected(base) as stayer:
        await stayer.subscribe("s", scenarios.token("anon"), table="rt_rls")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_insert, url, "rt_rls", range(count))
            for number in range(count):
                tasks.start_soon(come_and_go, base, number)
            for _ in range(count):
                await stayer.change()


async def test_the_end_hangs_up(url: str) -> None:
    async with AsyncExitStack() as life:
        base = await life.enter_async_context(scenarios.serving(url))
        async with scenarios.connected(base) as player:
            await player.subscribe("e", scenarios.token("anon"), table="rt_default")
            await life.aclose()
            assert await player.frames_until_closed() == 0


async def _insert(url: str, table: str, ids: Iterable[int], status: str = "queued") -> None:
    """Insert a row of cluster A per id, each in a transaction of its own."""
    row = sql.SQL("insert into public.{} values (%s, %s, %s)").format(sql.Identifier(table))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        for number in ids:
            await database.execute(row, [number, _CLUSTER_A, status])
