"""Two thousand provisions while Realtime's connection is cut a hundred times: none is left over."""

import dataclasses
import random
import uuid

import anyio
import psycopg
import pytest

from tendril_rt.agent.intake import Intake
from tendril_rt.agent.slots import Slots
from tendril_rt.control.client import ControlPlane, control_plane
from tendril_rt.control.listener import Listener
from tendril_rt.control.owner import Owner
from tendril_rt.control.push import Cause, Claimed, PushEvent, State, StateChanged
from tendril_rt.model import AgentId, ClaimId, ClusterId, Outcome, Provision, ProvisionId, Status
from tendril_rt.settings import ControlSettings
from tests.conftest import RunningPlane

from .phoenix_server import Wire
from .push_agents import FAST

pytestmark = [pytest.mark.integration, pytest.mark.long]

_INSERTS = 2_000
_CUTS = 100
_BACKLOG = 20  # so that what waits does so because nobody knows of it
_POLL_S = 5.0
_INSERT = """
insert into provisions (cluster_id, config_snapshot, stack_key)
values (%s, '{"template_source": {"repo": "https://h/r", "version": "v"}}', %s) returning id::text
"""


class _Agent:
    """Claims over the real control plane and ends at once what it claimed."""

    def __init__(self, control: ControlPlane, listen: ControlSettings) -> None:
        self._control = control
        self._agent_id = AgentId(str(uuid.uuid4()))
        self._slots = Slots(8)
        self.given: list[ProvisionId] = []
        self.claims: list[Claimed] = []
        self.sessions = 0
        self.intake = Intake(
            claim=self._claim,
            start=self._start,
            slots=self._slots,
            poll_interval_s=_POLL_S,
            on_claimed=self._note_claim,
        )
        self.listener = Listener(
            listen,
            fetch_token=control.realtime_token,
            wake=self.intake.wake,
            on_event=self._note,
            timing=FAST,
        )
        self.tasks = anyio.create_task_group()

    async def has_claimed(self, count: int) -> None:
        with anyio.fail_after(60):
            while len(self.given) < count:  # noqa: ASYNC110 - what is awaited is a count
                await anyio.sleep(0.02)

    async def _claim(self, claim_id: ClaimId) -> Provision | None:
        return await self._control.claim(self._agent_id, claim_id)

    def _start(self, provision: Provision, _claimed_at: float) -> None:
        self.given.append(provision.lease.provision_id)
        self.tasks.start_soon(self._finish, provision)

    async def _finish(self, provision: Provision) -> None:
        done = Outcome(Status.SUCCESS)
        await self._control.finish(provision.lease, done, log_chunks=0, metadata={})
        self._slots.give_back()
        self.intake.wake(Cause.SLOT)

    def _note_claim(self, claim: Claimed) -> None:
        self.claims.append(claim)
        self.listener.claimed(claim)

    def _note(self, event: PushEvent) -> None:
        if isinstance(event, StateChanged) and event.state is State.READY:
            self.sessions += 1


@pytest.mark.timeout(400)
async def test_no_insert_is_left_unclaimed_while_sessions_are_cut(
    plane: RunningPlane, user: Owner
) -> None:
    cluster = await user.register_cluster("cut", max_concurrency=50)
    settings = ControlSettings(
        cluster_id=cluster.cluster_id,
        api_token=cluster.token,
        url=plane.url,
        api_key=plane.anon_key,
    )
    queued: list[ProvisionId] = []
    async with (
        Wire.to(plane.url) as wire,
        control_plane(settings) as control,
        await psycopg.AsyncConnection.connect(plane.database_url, autocommit=True) as database,
    ):
        agent = _Agent(control, dataclasses.replace(settings, url=wire.url))
        async with agent.tasks as tasks:
            tasks.start_soon(agent.listener.run)
            tasks.start_soon(agent.intake.run)
            cut_after = set(random.sample(range(_INSERTS), _CUTS))
            for number in range(_INSERTS):
                queued.append(await _insert(database, cluster.cluster_id))
                if number in cut_after:
                    await wire.cut()
                await anyio.sleep(random.uniform(0, 0.04))
                await agent.has_claimed(len(queued) - _BACKLOG)
            await agent.has_claimed(_INSERTS)
            tasks.cancel_scope.cancel()

    assert sorted(agent.given) == sorted(queued), "each exactly once"
    waited_s = [claim.queued_s for claim in agent.claims if claim.queued_s is not None]
    assert max(waited_s) < _POLL_S * 1.2 + 3.0, "by push, or within one poll"
    assert agent.sessions > _CUTS / 4, f"only {agent.sessions} sessions became ready in between"
    by_push = sum(claim.cause is Cause.PUSH for claim in agent.claims)
    assert by_push > _INSERTS / 4, f"only {by_push} were claimed by push"


async def _insert(database: psycopg.AsyncConnection, cluster_id: ClusterId) -> ProvisionId:
    cursor = await database.execute(_INSERT.encode(), (cluster_id, str(uuid.uuid4())))
    row = await cursor.fetchone()
    assert row is not None
    return ProvisionId(row[0])
