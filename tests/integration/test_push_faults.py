"""Every way in which push is known to fail, over real sockets: the agent never stays deaf.

In each case the next insert is claimed by push, or within one poll, and the listener is READY again
within the bound that the test states. Intervals are short (``push_agents.FAST``); what is shown is
the order of things and that nothing hangs.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
import pytest_asyncio

from tendril_rt.control.listener import Timing
from tendril_rt.control.push import (
    Announced,
    Cause,
    Cure,
    CureTried,
    Kind,
    Path,
    PathDeaf,
    PathHealed,
    PathRefused,
    PushMissed,
    State,
    StateChanged,
    TokenNotRenewed,
    TokenRenewed,
)
from tendril_rt.errors import Rejected, Unavailable

from .phoenix_server import PhoenixServer, Wire
from .push_agents import FAST, PushAgent, listening

pytestmark = pytest.mark.integration

POLL_S = 0.5
ONE_POLL_S = POLL_S * 1.2 + 1.0  # the second is for a busy machine
READY_AGAIN_S = 3.0


@pytest_asyncio.fixture
async def server() -> AsyncIterator[PhoenixServer]:
    async with PhoenixServer.running() as running:
        yield running


async def _is_ready_again(agent: PushAgent, sessions: int) -> None:
    """Check that a session after the first *sessions* is ready soon, and hears."""
    took_s = await agent.until(
        lambda: agent.listener.sessions > sessions and agent.listener.state is State.READY
    )
    assert took_s < READY_AGAIN_S
    await agent.until_ready()
    await agent.hears()


# --- what works ----------------------------------------------------------------------------------


async def test_an_insert_is_claimed_by_push_and_both_paths_say_so(server: PhoenixServer) -> None:
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.settle()
        name = await agent.queue()
        assert await agent.is_claimed(name) is Cause.PUSH
        await agent.until(lambda: any(a.provision_id == name for a in agent.of(Announced)))
        heard = {(a.path, a.kind) for a in agent.of(Announced)}
        assert {(Path.BROADCAST, Kind.WAKEUP), (Path.CHANGES, Kind.INSERT)} <= heard
        insert = next(a for a in agent.of(Announced) if a.kind is Kind.INSERT)
        assert insert.latency_s is not None
        assert 0 <= insert.latency_s < 5
        assert not agent.of(PushMissed)


async def test_a_healthy_session_is_left_alone(server: PhoenixServer) -> None:
    """Heartbeats are answered and pulses echo for a while: nothing is kicked."""
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.until(lambda: server.heartbeats > 4)  # one is the library's own
        await agent.until(lambda: len([a for a in agent.of(Announced) if a.latency_s]) >= 3)
        assert agent.listener.sessions == 1
        assert not agent.of(PathDeaf)
        assert not agent.of(CureTried)


@pytest.mark.parametrize("event", ["wakeup", "pulse"])
async def test_a_wakeup_is_heeded_and_a_pulse_is_not(server: PhoenixServer, event: str) -> None:
    """Otherwise each heartbeat would ask for the next."""
    async with listening(server) as agent:
        agent.beats = False
        await agent.until_ready()
        await server.broadcast(event)
        await agent.until(lambda: agent.of(Announced))
        assert agent.heeded == (event == "wakeup")


async def test_a_sweep_follows_the_join_each_readiness_and_a_moment_later(
    server: PhoenixServer,
) -> None:
    """What was inserted unannounced before each of them is found without any poll."""
    server.behaviour.readies.clear()
    server.behaviour.answers_joins = False
    async with listening(server, timing=_with(sweep=1.0, join=10.0, ready=20.0)) as agent:
        await agent.until(lambda: server.joins)
        name = await agent.queue(announce=False)
        await server.accept(server.clients[0])
        assert await agent.is_claimed(name) is Cause.SWEEP
        for path in Path:
            name = await agent.queue(announce=False)
            server.behaviour.readies = {path}
            await server.say_ready(server.clients[0])
            assert await agent.is_claimed(name) is Cause.SWEEP
            await anyio.sleep(0.1)  # nothing of that sweep is left
            late = await agent.queue(announce=False)
            assert await agent.is_claimed(late) is Cause.SWEEP


# --- connections that end ------------------------------------------------------------------------


async def _close_going_away(server: PhoenixServer) -> None:
    for client in list(server.clients):
        await client.socket.close(code=1001)


async def _close_normally(server: PhoenixServer) -> None:
    for client in list(server.clients):
        await client.socket.close(code=1000)


async def _cut(server: PhoenixServer) -> None:
    server.cut()


async def _phx_close(server: PhoenixServer) -> None:
    for client in server.joined:
        await client.close_channel()


async def _phx_error(server: PhoenixServer) -> None:
    for client in server.joined:
        await client.send("phx_error", {})


async def _token_expired(server: PhoenixServer) -> None:
    for client in server.joined:
        await client.tell("system", "Token has expired 3 seconds ago", "error")
        await client.close_channel()


async def _huge_frame(server: PhoenixServer) -> None:
    for client in server.joined:
        await client.send("broadcast", {"event": "x", "payload": {"x": "x" * 2**21}})


@pytest.mark.parametrize(
    "happens",
    [
        _close_going_away,
        _close_normally,
        _cut,
        _phx_close,
        _phx_error,
        _token_expired,
        _huge_frame,
    ],
    ids=lambda f: f.__name__.strip("_"),
)
async def test_a_session_that_ends_is_followed_by_one_that_hears(
    server: PhoenixServer, happens: Callable[[PhoenixServer], Awaitable[None]]
) -> None:
    async with listening(server, poll_s=POLL_S) as agent:
        await agent.until_ready()
        await happens(server)
        name = await agent.queue(announce=False)
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        await _is_ready_again(agent, sessions=1)
        assert len(agent.reasons) == 1


@pytest.mark.parametrize("moment", ["join", "reply", "ready"])
async def test_a_channel_may_be_closed_at_any_moment(server: PhoenixServer, moment: str) -> None:
    server.behaviour.closes_after = moment
    async with listening(server) as agent:
        await agent.until(lambda: agent.listener.sessions >= 3)
        server.behaviour.closes_after = None
        assert await agent.until_ready() < READY_AGAIN_S
        await agent.hears()
        assert any("closed" in reason for reason in agent.reasons)


async def test_malformed_frames_are_passed_over(server: PhoenixServer) -> None:
    async with listening(server) as agent:
        await agent.until_ready()
        for text in ("", "{", "[]", "null", '{"event": 3}', '{"event":"system","topic":"x"}'):
            await server.clients[0].send_text(text)
        await server.clients[0].send("postgres_changes", {"data": None, "ids": "no"})
        await server.clients[0].send("broadcast", {"event": None})
        await agent.hears()
        assert agent.listener.sessions == 1


async def test_a_reader_that_dies_is_noticed_at_once(server: PhoenixServer) -> None:
    """Of a frame that the library takes for valid and cannot handle."""
    async with listening(server, timing=_with(heartbeat=60.0)) as agent:
        await agent.until_ready()
        for client in server.joined:
            await client.send("presence_diff", {"joins": {"a": {"metas": [{}]}}, "leaves": {}})
        await _is_ready_again(agent, sessions=1)
        assert agent.reasons[0].startswith("the reader ended")


async def test_an_observer_that_raises_does_not_make_the_agent_deaf(server: PhoenixServer) -> None:
    async with listening(server) as agent:
        agent.observer_raises = True
        await agent.until_ready()
        await agent.hears()
        await agent.hears()
        assert agent.listener.sessions == 1


# --- connections that do not end -----------------------------------------------------------------


async def test_a_half_open_connection_is_found_by_its_unanswered_heartbeat(
    server: PhoenixServer,
) -> None:
    async with Wire.to(server.url) as wire, listening(server, url=wire.url, poll_s=POLL_S) as agent:
        agent.beats = False  # so that nothing but the heartbeat can tell
        await agent.until_ready()
        wire.is_silent = True
        began = time.monotonic()
        name = await agent.queue()
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        await agent.until(lambda: agent.reasons)
        assert agent.reasons[0].startswith("no reply to a heartbeat")
        assert time.monotonic() - began < FAST.heartbeat + FAST.heartbeat_reply + 1.0
        wire.is_silent = False
        await agent.until_ready()
        await agent.hears()


async def test_a_server_that_answers_no_heartbeat_is_left(server: PhoenixServer) -> None:
    server.behaviour.answers_heartbeats = False
    async with listening(server) as agent:
        await agent.until(lambda: len(agent.reasons) >= 2)
        assert all(reason.startswith("no reply to a heartbeat") for reason in agent.reasons)
        server.behaviour.answers_heartbeats = True
        await _is_ready_again(agent, sessions=agent.listener.sessions)


@pytest.mark.parametrize("field", ["answers_handshakes", "answers_joins"])
async def test_silence_at_the_start_is_given_up_in_time(server: PhoenixServer, field: str) -> None:
    setattr(server.behaviour, field, False)
    async with listening(server, poll_s=POLL_S) as agent:
        name = await agent.queue()
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        took_s = await agent.until(lambda: agent.reasons)
        assert took_s < FAST.connect + FAST.join + 1.0
        assert "answer" in agent.reasons[0]
        setattr(server.behaviour, field, True)
        await agent.until_ready()
        await agent.hears()


# --- paths that are deaf -------------------------------------------------------------------------


async def test_a_deaf_broadcast_is_cured_by_a_new_token(server: PhoenixServer) -> None:
    """As after a restart of Postgres: silent, without a frame, until a token that is new."""
    async with listening(server) as agent:
        await agent.until_ready()
        server.behaviour.delivers = {Path.CHANGES}
        await agent.until(lambda: agent.of(CureTried))
        await agent.until(lambda: len(server.clients[0].tokens) > 1)
        server.behaviour.delivers = set(Path)
        await agent.until(lambda: agent.of(PathHealed))
        await agent.hears()
        assert [(cure.path, cure.cure) for cure in agent.of(CureTried)] == [
            (Path.BROADCAST, Cure.TOKEN)
        ]
        assert agent.listener.sessions == 1
        assert server.clients[0].tokens == ["token-1", "token-2"]


async def test_a_token_that_does_not_help_is_followed_by_a_fresh_session(
    server: PhoenixServer,
) -> None:
    server.behaviour.delivers = {Path.CHANGES}
    async with listening(server) as agent:
        await agent.until(lambda: agent.listener.sessions >= 2)
        server.behaviour.delivers = set(Path)
        await agent.until(lambda: agent.of(PathHealed))
        assert [cure.cure for cure in agent.of(CureTried)][:2] == [Cure.TOKEN, Cure.SESSION]
        assert not agent.reasons  # no failure, so no backoff
        await agent.until_ready()
        await agent.hears()


async def test_a_path_that_stays_deaf_is_cured_ever_more_rarely_while_the_other_works(
    server: PhoenixServer,
) -> None:
    server.behaviour.delivers = {Path.CHANGES}
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.hears()
        await agent.until(lambda: len(agent.of(CureTried)) >= 4)
        await agent.hears()
        assert len(agent.of(PathDeaf)) == 1  # said once
        starts = server.handshakes
        gaps = [later - earlier for earlier, later in pairwise(starts[1:])]
        assert gaps[0] >= FAST.cure_spacing
        assert gaps == sorted(gaps)


async def test_deaf_changes_are_known_by_what_they_miss_though_broadcasts_work(
    server: PhoenixServer,
) -> None:
    server.behaviour.delivers = {Path.BROADCAST}
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.settle()
        name = await agent.queue()
        assert await agent.is_claimed(name) is Cause.PUSH
        await agent.until(lambda: agent.of(CureTried))
        assert [(miss.path, miss.what) for miss in agent.of(PushMissed)] == [(Path.CHANGES, name)]
        assert (agent.of(CureTried)[0].path, agent.of(CureTried)[0].cure) == (
            Path.CHANGES,
            Cure.TOKEN,
        )
        server.behaviour.delivers = set(Path)
        await agent.hears()
        await agent.until(lambda: agent.of(PathHealed))


async def test_readiness_without_events_on_either_path_leaves_the_poll(
    server: PhoenixServer,
) -> None:
    server.behaviour.delivers = set()
    async with listening(server, poll_s=POLL_S) as agent:
        await agent.until_ready()
        name = await agent.queue()
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        await agent.until(lambda: {deaf.path for deaf in agent.of(PathDeaf)} == set(Path))
        assert {miss.path for miss in agent.of(PushMissed)} == set(Path)
        server.behaviour.delivers = set(Path)
        await agent.until_ready()
        await agent.until(lambda: any(h.path is Path.BROADCAST for h in agent.of(PathHealed)))
        await agent.hears()
        await agent.until(lambda: any(h.path is Path.CHANGES for h in agent.of(PathHealed)))


async def test_events_without_readiness_are_taken_and_the_session_is_not(
    server: PhoenixServer,
) -> None:
    server.behaviour.readies = set()
    async with listening(server) as agent:
        await agent.until(lambda: server.joined)
        await agent.hears()
        await agent.until(lambda: agent.reasons)
        assert agent.reasons[0].startswith("joined, but nothing was ready")
        server.behaviour.readies = set(Path)
        await _is_ready_again(agent, sessions=1)


@pytest.mark.parametrize("path", list(Path))
async def test_a_path_that_is_never_ready_is_deaf_and_the_other_works(
    server: PhoenixServer, path: Path
) -> None:
    server.behaviour.readies = set(Path) - {path}
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.hears()
        server.behaviour.delivers = set(Path) - {path}
        await agent.until(lambda: agent.of(CureTried))
        assert {deaf.path for deaf in agent.of(PathDeaf)} == {path}
        await agent.hears()


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "Unauthorized: You do not have permissions to read from this Channel topic: cluster:x",
        "NotOffered: a private channel is not offered by the embedded control plane",
    ],
)
async def test_without_broadcast_the_plain_channel_is_used_and_it_is_said_once(
    server: PhoenixServer, reason: str
) -> None:
    server.behaviour.private_error = reason
    server.behaviour.readies = {Path.CHANGES}
    async with listening(server) as agent:
        await agent.until_ready()
        await agent.hears()
        assert [(refused.path, refused.again) for refused in agent.of(PathRefused)] == [
            (Path.BROADCAST, False)
        ]
        assert not agent.reasons
        server.cut()
        await _is_ready_again(agent, sessions=2)
        assert len(agent.of(PathRefused)) == 1
        assert [_is_private(join) for join in server.joins] == [True, False, False]


async def test_the_private_channel_is_asked_for_again_later(server: PhoenixServer) -> None:
    server.behaviour.private_error = "Unauthorized: not you"
    server.behaviour.readies = {Path.CHANGES}
    async with listening(server, timing=_with(refused=0.5)) as agent:
        await agent.until(lambda: len(agent.of(PathRefused)) >= 2)
        assert [refused.again for refused in agent.of(PathRefused)][:2] == [False, True]
        server.behaviour.private_error = None
        server.behaviour.readies = set(Path)
        await agent.until_ready()
        await agent.hears()


async def test_changes_that_cannot_be_had_are_left_out_after_the_second_time(
    server: PhoenixServer,
) -> None:
    server.behaviour.readies = {Path.BROADCAST}
    async with listening(server) as agent:
        for _ in range(2):
            await agent.until_ready()
            (client,) = server.joined
            assert client.bindings
            sessions = agent.listener.sessions
            await client.tell("postgres_changes", "Unable to subscribe to changes", "error")
            await agent.until_session_after(sessions)
        await agent.until_ready()
        await agent.hears()
        assert [refused.path for refused in agent.of(PathRefused)] == [Path.CHANGES]
        assert _is_private(server.joins[-1])
        assert server.joined[0].bindings == []


@pytest.mark.parametrize("where", ["handshake", "join"])
async def test_too_many_is_answered_by_patience(server: PhoenixServer, where: str) -> None:
    if where == "handshake":
        server.behaviour.refuses = [429]
    else:
        server.behaviour.join_errors = ["ClientJoinRateLimitReached: Too many joins per second"]
    async with listening(server, poll_s=POLL_S) as agent:
        await agent.until(lambda: agent.reasons)
        backoff = next(c for c in agent.of(StateChanged) if c.state is State.BACKOFF)
        assert backoff.delay_s >= FAST.rate_limit
        name = await agent.queue()
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        took_s = await agent.until_ready()
        assert took_s < 2 * FAST.rate_limit + READY_AGAIN_S
        assert len(server.handshakes) == 2


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_a_refused_handshake_is_tried_again(server: PhoenixServer, status: int) -> None:
    server.behaviour.refuses = [status] * 3
    async with listening(server) as agent:
        await agent.until_ready()
        assert len(agent.reasons) == 3
        assert all(str(status) in reason for reason in agent.reasons)


async def test_a_token_of_another_secret_is_named(server: PhoenixServer) -> None:
    server.behaviour.join_errors = ["JwtSignatureError: Failed to validate JWT signature"]
    async with listening(server) as agent:
        await agent.until_ready()
        assert agent.reasons == ["JwtSignatureError: Failed to validate JWT signature"]


# --- tokens --------------------------------------------------------------------------------------


async def test_tokens_are_renewed_before_they_expire_and_a_sweep_follows(
    server: PhoenixServer,
) -> None:
    async with listening(server, token_life_s=1.0) as agent:
        await agent.until_ready()
        await agent.settle()
        name = await agent.queue(announce=False)  # lost in the swap
        assert await agent.is_claimed(name, within_s=2.0) is Cause.SWEEP
        await agent.until(lambda: len(server.clients[0].tokens) >= 3)
        assert agent.listener.sessions == 1
        assert agent.of(TokenRenewed)
        assert not agent.of(PathDeaf)
        await agent.hears()


@pytest.mark.parametrize("error", [Unavailable("503"), Rejected("no")])
async def test_a_renewal_that_fails_is_tried_again_until_the_token_expires(
    server: PhoenixServer, error: Unavailable | Rejected
) -> None:
    async with listening(server, token_life_s=1.0) as agent:
        await agent.until_ready()
        agent.token_errors = [error] * 3
        await agent.until(lambda: agent.of(TokenRenewed))
        assert len(agent.of(TokenNotRenewed)) == 3
        assert agent.listener.sessions == 1
        await agent.hears()


async def test_no_token_at_the_start_is_an_outage_and_none_offered_is_said_once(
    server: PhoenixServer,
) -> None:
    async with listening(server, poll_s=POLL_S) as agent:
        agent.token_errors = [Unavailable("503")]
        await agent.until(lambda: agent.reasons)
        assert "503" in agent.reasons[0]
        await agent.until_ready()

        agent.offers_tokens = False
        server.cut()
        await agent.until(lambda: agent.listener.state is State.OFF)
        name = await agent.queue()
        await agent.is_claimed(name, within_s=ONE_POLL_S)
        await anyio.sleep(2 * FAST.no_token)
        assert len([c for c in agent.of(StateChanged) if c.state is State.OFF]) == 1

        agent.offers_tokens = True
        await agent.until_ready()
        await agent.hears()


async def test_a_secret_that_is_taken_away_ends_the_session(server: PhoenixServer) -> None:
    async with listening(server, token_life_s=0.5) as agent:
        await agent.until_ready()
        agent.offers_tokens = False
        await agent.until(lambda: agent.listener.state is State.OFF)


# --- storms and suspends -------------------------------------------------------------------------


async def test_a_server_that_cuts_every_session_is_asked_ever_more_rarely(
    server: PhoenixServer,
) -> None:
    async with listening(server) as agent:
        for _ in range(8):
            await agent.until_ready()
            sessions = agent.listener.sessions
            server.cut()
            await agent.until_session_after(sessions)
        delays = [c.delay_s for c in agent.of(StateChanged) if c.state is State.BACKOFF]
        assert len(delays) == 8
        assert all(delay <= min(0.4, 0.05 * 2**n) for n, delay in enumerate(delays))
        assert max(delays) > 0.05  # the first window is left: READY alone does not reset it
        await agent.until_ready()
        await agent.hears()


async def test_the_backoff_starts_again_after_a_session_that_lasted(server: PhoenixServer) -> None:
    async with listening(server) as agent:
        for _ in range(3):
            await agent.until_ready()
            await anyio.sleep(FAST.stable)
            sessions = agent.listener.sessions
            server.cut()
            await agent.until_session_after(sessions)
        delays = [c.delay_s for c in agent.of(StateChanged) if c.state is State.BACKOFF]
        assert all(delay <= FAST.spread for delay in delays)


async def test_after_a_suspend_a_fresh_session_follows_without_a_backoff(
    server: PhoenixServer,
) -> None:
    async with Wire.to(server.url) as wire, listening(server, url=wire.url) as agent:
        await agent.until_ready()
        wire.is_silent = True  # the old connection is dead, and nobody said so
        agent.listener.restart("the machine slept for 3600 s")
        await agent.until_session_after(1)
        wire.is_silent = False
        await agent.until_ready()
        assert not agent.reasons
        await agent.hears()


async def test_a_suspend_ends_a_long_backoff(server: PhoenixServer) -> None:
    server.behaviour.refuses = [429]
    async with listening(server, timing=_with(rate_limit=3600.0)) as agent:
        await agent.until(lambda: agent.listener.state is State.BACKOFF)
        agent.listener.restart("the machine slept for 3600 s")
        await agent.until_ready()
        await agent.hears()


def _is_private(join: dict[str, object]) -> bool:
    config = join["config"]
    assert isinstance(config, dict)
    return bool(config["private"])


def _with(**changes: float) -> Timing:
    return replace(FAST, **changes)
