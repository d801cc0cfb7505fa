"""Broadcasts from the database: what no recording shows."""

import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import psycopg
import pytest

from tendril_rt.local import postgres

from . import realtime_scenarios as scenarios

pytestmark = pytest.mark.conformance

_CLUSTER_A = "00000000-0000-4000-8000-00000000000a"
_TOPIC = f"cluster:{_CLUSTER_A}"
_NO_PERMISSION = f"You do not have permissions to read from this Channel topic: {_TOPIC}"


async def test_one_private_channel_carries_changes_and_broadcasts(url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        binding = {"event": "INSERT", "schema": "public", "table": "rt_claim"}
        reason = await player.join_private(
            _TOPIC, scenarios.token("agent_a"), binding, replication_ready=True
        )
        assert reason == ""
        # In either order: the real server promises none.
        assert {await player.system() for _ in range(2)} == {
            "Replication connection established",
            "Subscribed to PostgreSQL",
        }
        await _send(url, "wakeup")
        assert (await player.broadcast())[0] == "wakeup"
        await _insert_claim(url)
        assert (await player.change())["table"] == "rt_claim"


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("anon", {}),
        ("agent_b", {}),
        ("agent_a", {"cluster_id": None}),
        ("agent_a", {"cluster_id": ["x"]}),
        ("agent_a", {"role": "authenticated"}),
        ("agent_a", {"role": "nosuch"}),
        ("agent_a", {"role": "postgres; drop schema realtime"}),
    ],
)
async def test_a_stranger_is_refused(name: str, claims: dict[str, object], idle_url: str) -> None:
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        reason = await player.join_private(_TOPIC, scenarios.token(name, **claims))
        assert reason == f"Unauthorized: {_NO_PERMISSION}"


async def test_a_policy_that_raises_harms_only_its_own_token(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute(
            "create policy cast_claim on realtime.messages for select to anon using"
            " ((current_setting('request.jwt.claims', true)::jsonb ->> 'cluster_id')::uuid"
            " is not null)"
        )
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        bad = scenarios.token("agent_a", cluster_id="x")
        assert await player.join_private(_TOPIC, bad) == f"Unauthorized: {_NO_PERMISSION}"
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        await _send(url, "wakeup")
        assert await player.broadcast()


async def test_asking_for_access_leaves_no_trace(url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        await player.expect_silence()
    async with await psycopg.AsyncConnection.connect(url) as database:
        cursor = await database.execute("select count(*) from realtime.messages")
        assert await cursor.fetchone() == (0,)


async def test_a_new_token_is_checked_and_nothing_is_missed_meanwhile(url: str) -> None:
    count = 50
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_send, url, *map(str, range(count)))
            for n in range(10):
                await player.renew(_TOPIC, scenarios.token("agent_a", n=n))
            assert [(await player.broadcast())[0] for _ in range(count)] == [
                str(n) for n in range(count)
            ]


async def test_a_new_token_that_may_not_listen_ends_the_channel(url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        await player.renew(_TOPIC, scenarios.token("agent_b"))
        assert await player.system() == _NO_PERMISSION
        assert (await player.receive())["event"] == "phx_close"
        await _send(url, "wakeup")
        await player.expect_silence()


async def test_replay_is_bounded_and_comes_once(url: str) -> None:
    await _send(url, *map(str, range(30)))
    replay = {"since": 0, "limit": 1_000}
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        token = scenarios.token("agent_a")
        assert await player.join_private(_TOPIC, token, replay=replay) == ""
        events = [(await player.broadcast())[0] for _ in range(25)]
        assert events == [str(n) for n in range(5, 30)]
        await player.renew(_TOPIC, scenarios.token("agent_a2"))
        await player.expect_silence()


@pytest.mark.parametrize(
    "replay", [{"since": "1"}, {"since": 1, "limit": "5"}, {"since": 10**17}, {"since": 10**30}]
)
async def test_replay_of_nonsense_is_refused(replay: dict[str, object], idle_url: str) -> None:
    async with scenarios.serving(idle_url) as base, scenarios.connected(base) as player:
        reason = await player.join_private(_TOPIC, scenarios.token("agent_a"), replay=replay)
        assert reason == "UnableToReplayMessages: Replay params are not valid"


async def test_numbers_arrive_as_they_are(url: str) -> None:
    numbers = '{"id": 1, "n": [9007199254740993, 123456789012345678901234567890]}'
    since = {"since": 0}
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        await _send(url, "ev", payload=numbers)
        live = await player.broadcast()
        assert live[1]["n"] == [9007199254740993, 123456789012345678901234567890]
        assert await player.join_private(_TOPIC, scenarios.token("agent_a"), replay=since) == ""
        assert (await player.receive())["event"] == "phx_close"  # of the first join
        assert await player.broadcast() == live


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
async def test_a_name_of_any_length_arrives(vsn: str, url: str) -> None:
    """Those that do not fit into a binary frame, too."""
    async with scenarios.serving(url) as base, scenarios.connected(base, vsn=vsn) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        names = ["é" * length for length in (127, 128, 5_000)]
        await _send(url, *names)
        assert [(await player.broadcast())[0] for _ in names] == names


async def test_a_message_that_is_not_whole_is_passed_over(url: str) -> None:
    async with scenarios.serving(url) as base, scenarios.connected(base) as player:
        await player.listen(_TOPIC, scenarios.token("agent_a"))
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            await database.execute(
                "insert into realtime.messages (topic, extension, private) values (%s, %s, true)",
                (_TOPIC, "broadcast"),
            )
        await _send(url, "whole")
        assert (await player.broadcast())[0] == "whole"


async def test_broadcasts_do_not_wait_for_the_tick_of_a_poller(url: str) -> None:
    interval_s = 2.0
    async with (
        scenarios.serving(url, changes_interval_s=interval_s) as base,
        scenarios.connected(base) as player,
    ):
        binding = {"event": "*", "schema": "public", "table": "rt_claim"}
        assert await player.join_private(_TOPIC, scenarios.token("agent_a"), binding) == ""
        assert await player.system() == "Subscribed to PostgreSQL"
        if (left_s := interval_s - time.time() % interval_s) < interval_s / 2:
            await anyio.sleep(left_s)  # now the next tick is far away
        await _insert_claim(url)
        await _send(url, "wakeup")
        assert (await player.broadcast())[0] == "wakeup"
        assert (await player.change())["table"] == "rt_claim"


async def test_broadcasts_flow_again_after_a_restart_of_postgres(tmp_path: Path) -> None:
    async with AsyncExitStack() as first_life:
        server = await first_life.enter_async_context(postgres.running(tmp_path / "plane"))
        scenarios.prepare(server)
        url = server.url("fresh")
        async with scenarios.serving(url) as base, scenarios.connected(base) as player:
            await player.listen(_TOPIC, scenarios.token("agent_a"))
            await first_life.aclose()
            await player.renew(_TOPIC, scenarios.token("agent_a2"))
            message = "Realtime was unable to connect to the project database"
            assert await player.system() == message
            assert (await player.receive())["event"] == "phx_close"
            reason = await player.join_private(_TOPIC, scenarios.token("agent_a"))
            assert reason == f"UnableToConnectToProject: {message}"
            async with postgres.running(tmp_path / "plane", port=server.port):
                await player.listen(_TOPIC, scenarios.token("agent_a"))
                await _send(url, "again")
                assert (await player.broadcast())[0] == "again"


async def test_a_channel_hears_again_after_a_restart_of_postgres(tmp_path: Path) -> None:
    async with AsyncExitStack() as first_life:
        server = await first_life.enter_async_context(postgres.running(tmp_path / "plane"))
        scenarios.prepare(server)
        url = server.url("fresh")
        async with scenarios.serving(url) as base, scenarios.connected(base) as player:
            await player.listen(_TOPIC, scenarios.token("agent_a"))
            await first_life.aclose()
            async with (
                postgres.running(tmp_path / "plane", port=server.port),
                scenarios.connected(base) as other,
            ):
                await other.listen(_TOPIC, scenarios.token("agent_a"))  # so the stream runs
                await _send(url, "again")
                assert (await player.broadcast())[0] == "again"


async def _send(url: str, *events: str, payload: str = "{}") -> None:
    """Send one message per event to the private topic, each in a transaction of its own."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        for event in events:
            await database.execute("select realtime.send(%s, %s, %s)", (payload, event, _TOPIC))


async def _insert_claim(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
        await database.execute("insert into public.rt_claim values (1, %s, 'queued')", [_CLUSTER_A])
