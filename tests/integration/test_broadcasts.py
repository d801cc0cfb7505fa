"""What makes the control plane broadcast, heard by an agent's own token over a real websocket."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psycopg
import pytest
import pytest_asyncio

from tendril_rt.control.client import AgentInfo, ControlPlane, control_plane
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import AgentId, ClaimId, Outcome, ProvisionId, Status
from tendril_rt.settings import ControlSettings
from tests.conformance.realtime_scenarios import Player, connected
from tests.conftest import RunningPlane
from tests.integration.agents import snapshot

pytestmark = pytest.mark.integration

_INSERTS = {"event": "INSERT", "schema": "public", "table": "provisions"}


@pytest_asyncio.fixture
async def control(plane: RunningPlane, cluster: Registration) -> AsyncIterator[ControlPlane]:
    """The session of an agent of the cluster."""
    settings = ControlSettings(
        url=plane.url,
        api_key=plane.anon_key,
        cluster_id=cluster.cluster_id,
        api_token=cluster.token,
    )
    async with control_plane(settings) as session:
        yield session


@asynccontextmanager
async def _listening(
    plane: RunningPlane, cluster: Registration, control: ControlPlane
) -> AsyncIterator[Player]:
    """Join the private channel of *cluster* as its agent; broadcasts flow."""
    async with connected(plane.url, apikey=plane.anon_key) as player:
        token = await control.realtime_token()
        assert token is not None
        await player.listen(f"cluster:{cluster.cluster_id}", token.token)
        yield player


async def _heard(player: Player) -> str:
    """Return the next event, after checking that it says nothing else."""
    event, payload = await player.broadcast()
    assert payload.keys() == {"id"}
    return event


async def _submit(user: Owner, cluster: Registration) -> ProvisionId:
    return await user.create_provision(cluster.cluster_id, snapshot("https://example.test/t.git"))


def _agent_id() -> AgentId:
    return AgentId(str(uuid.uuid4()))


def _claim_id() -> ClaimId:
    return ClaimId(str(uuid.uuid4()))


async def test_whatever_an_agent_should_know_wakes_it(
    plane: RunningPlane, user: Owner, cluster: Registration, control: ControlPlane
) -> None:
    async with _listening(plane, cluster, control) as player:
        provision_id = await _submit(user, cluster)
        assert await _heard(player) == "wakeup"
        provision = await control.claim(_agent_id(), _claim_id())
        assert provision is not None
        await user.cancel_provision(provision_id)
        assert await _heard(player) == "wakeup", "a cancel request; the claim itself wakes nobody"
        await user.cancel_provision(provision_id, force=True)
        assert await _heard(player) == "wakeup", "more force"
        cancelled = Outcome(Status.CANCELLED)
        await control.finish(provision.lease, cancelled, log_chunks=0, metadata={})
        assert await _heard(player) == "wakeup", "the stack is free"
        _set_options(plane, cluster, p_drain=True)
        assert await _heard(player) == "wakeup", "drain"
        _set_options(plane, cluster, p_max_concurrency=5)
        assert await _heard(player) == "wakeup", "concurrency"
        _set_options(plane, cluster, p_max_concurrency=5)
        await player.expect_silence()


async def test_a_requeued_provision_wakes_the_agents(
    plane: RunningPlane, user: Owner, cluster: Registration, control: ControlPlane
) -> None:
    async with (
        await psycopg.AsyncConnection.connect(plane.database_url, autocommit=True) as database,
        _listening(plane, cluster, control) as player,
    ):
        provision_id = await _submit(user, cluster)
        assert await _heard(player) == "wakeup"
        assert await control.claim(_agent_id(), _claim_id()) is not None
        await database.execute(
            "update public.provision_leases set expires_at = now() - interval '5 min'"
            " where provision_id = %s",
            (provision_id,),
        )
        # As if some agent had been heard a moment ago: after a gap of all agents nobody is reaped.
        await database.execute(
            "update tendril_private.sweeps"
            " set swept_at = clock_timestamp() - interval '20 s', paused_until = '-infinity'"
        )
        await control.claim(_agent_id(), _claim_id())
        heard = [await _heard(player) for _ in range(2)]
        assert heard == ["wakeup", "wakeup"]  # its lease is gone, and it is queued


async def test_a_heartbeat_comes_back_as_a_pulse(
    plane: RunningPlane, cluster: Registration, control: ControlPlane
) -> None:
    agent = AgentInfo(_agent_id(), "host", "1", 1)
    async with _listening(plane, cluster, control) as player:
        for _ in range(2):
            await control.heartbeat(agent, {}, is_draining=False)
            assert await _heard(player) == "pulse"


async def test_one_channel_carries_both_bindings(
    plane: RunningPlane, user: Owner, cluster: Registration, control: ControlPlane
) -> None:
    """The join of an agent: inserts of its cluster, and the broadcasts."""
    token = await control.realtime_token()
    assert token is not None
    binding = {**_INSERTS, "filter": f"cluster_id=eq.{cluster.cluster_id}"}
    async with connected(plane.url, apikey=plane.anon_key) as player:
        topic = f"cluster:{cluster.cluster_id}"
        assert not await player.join_private(topic, token.token, binding, replication_ready=True)
        assert {await player.system() for _ in range(2)} == {
            "Replication connection established",
            "Subscribed to PostgreSQL",
        }
        provision_id = await _submit(user, cluster)
        frames = [await player.receive() for _ in range(2)]
        assert {frame["event"] for frame in frames} == {"broadcast", "postgres_changes"}
        assert str(provision_id) in str(frames)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ('{{"role": "anon", "exp": {later}}}', "Unauthorized"),
        ('{{"role": "anon", "exp": {later}, "cluster_id": "{other}"}}', "Unauthorized"),
        ('{{"role": "anon", "exp": {later}, "cluster_id": "hostile"}}', "Unauthorized"),
        (
            '{{"role": "authenticated", "exp": {later}, "cluster_id": "{own}"}}',
            "Unauthorized",
        ),
        (
            '{{"role": "anon", "exp": 1, "cluster_id": "{own}"}}',
            "InvalidJWTToken: Token has expired",
        ),
    ],
)
async def test_strangers_are_refused_and_hear_nothing(
    plane: RunningPlane,
    user: Owner,
    cluster: Registration,
    control: ControlPlane,
    claims: str,
    reason: str,
) -> None:
    async with (
        _listening(plane, cluster, control) as agent,
        connected(plane.url, apikey=plane.anon_key) as stranger,
    ):
        text = claims.format(later=2**32, own=cluster.cluster_id, other=uuid.uuid4())
        token = _signed(plane, text)
        topic = f"cluster:{cluster.cluster_id}"
        assert (await stranger.join_private(topic, token)).startswith(reason)
        await stranger.join(topic, plane.anon_key, table="provisions")  # the public one is open
        assert await stranger.system() == "Subscribed to PostgreSQL"
        await _submit(user, cluster)
        assert await _heard(agent) == "wakeup"
        await stranger.expect_silence()


def _set_options(plane: RunningPlane, cluster: Registration, **options: object) -> None:
    httpx.post(
        f"{plane.url}/rest/v1/rpc/set_cluster_options",
        json={"p_cluster_id": cluster.cluster_id, **options},
        headers={"apikey": plane.anon_key, "authorization": f"Bearer {plane.user_token}"},
    ).raise_for_status()


def _signed(plane: RunningPlane, claims: str) -> str:
    """Return a token of the plane's own secret."""
    with psycopg.connect(plane.database_url) as connection:
        row = connection.execute(
            "select tendril_private.sign_jwt(%s::jsonb, secret) from tendril_private.jwt_secrets",
            (claims,),
        ).fetchone()
    assert row is not None
    return str(row[0])
