"""Whatever a Realtime server sends: the session ignores it or ends, and the agent hears again."""

import json

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .phoenix_server import PhoenixServer
from .push_agents import PushAgent, listening

pytestmark = pytest.mark.integration

_TRIES = 40
_TRY_S = 0.5
_EVENTS = (
    *("phx_reply", "phx_close", "phx_error", "system", "broadcast", "postgres_changes"),
    *("presence_state", "presence_diff", "access_token", "heartbeat", "wakeup"),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["status", "response", "data", "event", "payload", "ids", "joins", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_FRAME = st.fixed_dictionaries(
    {
        "event": st.sampled_from(_EVENTS) | _JSON,
        "topic": st.sampled_from(["own", "phoenix", "realtime:other"]) | _JSON,
        "payload": _JSON,
        "ref": st.none() | st.sampled_from(["1", "2", "beat-1"]) | _JSON,
    }
)
_FRAMES = st.lists(_FRAME.map(json.dumps) | st.text() | st.binary(), max_size=10)


async def _hears(agent: PushAgent) -> bool:
    """Tell whether an insert is claimed before long; nothing polls."""
    for _ in range(_TRIES):
        name = await agent.queue()
        with anyio.move_on_after(_TRY_S):
            while agent.cause_of(name) is None:  # noqa: ASYNC110 - the session may have ended
                await anyio.sleep(0.01)
            return True
    return False


async def _survives(frames: list[str | bytes]) -> None:
    async with PhoenixServer.running() as server, listening(server) as agent:
        await agent.until_ready()
        for frame in frames:
            for client in server.joined:
                if isinstance(frame, bytes):
                    await client.socket.send_bytes(frame)
                else:
                    await client.send_text(frame.replace('"own"', json.dumps(client.topic)))
        assert await _hears(agent), agent.reasons


@example(["x" * 2_000_000])
@example(["[" * 100_000])
@example([b"\xff\xfe", b""])
@given(_FRAMES)
@settings(max_examples=settings().max_examples // 4)  # each takes a server
@pytest.mark.timeout(3600)
def test_no_frame_makes_an_agent_deaf_for_good(frames: list[str | bytes]) -> None:
    anyio.run(_survives, frames)
