"""What an agent is there for: heard of at once, or by asking; logged whole; cancelled; shared."""

import re

import anyio

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ProvisionId, Status, StreamType
from tests.integration.agents import ended, log_text, snapshot

from .engine import MARKS
from .stage import RELEASED, REPO, Agents, held

pytestmark = MARKS

_SELDOM = "600"  # seconds between polls: what comes sooner was not polled for


async def test_a_provision_is_pushed_to_the_agent(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    with agents.agent(cluster, TENDRIL_POLL_INTERVAL_S=_SELDOM) as agent:
        await agent.says("is ready after")
        await anyio.sleep(4)  # the sweeps that follow readiness would find it as well
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(REPO))

        assert (await ended(user, provision_id)).status is Status.SUCCESS
        assert agent.metric('tendril_claims_total{cause="push"}') == 1


async def test_without_push_it_is_polled_for(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    with agents.agent(cluster, TENDRIL_REALTIME="false", TENDRIL_POLL_INTERVAL_S="1") as agent:
        await agent.says("online")
        await agent.has_asked()
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(REPO))

        assert (await ended(user, provision_id)).status is Status.SUCCESS
        assert agent.metric('tendril_claims_total{cause="poll"}') == 1


async def test_every_line_arrives_once_and_in_order(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    lines = 500
    configuration = snapshot(
        REPO, terraform_vars={"name": "image", "lines": lines, "pause_seconds": 0}
    )
    with agents.agent(cluster):
        provision_id = await user.create_provision(cluster.cluster_id, configuration)

        assert (await ended(user, provision_id)).status is Status.SUCCESS
    stdout = await log_text(user, provision_id, StreamType.STDOUT)
    shown = re.findall(rf"hello, image: line (\d+) of {lines}", stdout)
    assert [int(number) for number in shown] == list(range(1, lines + 1))
    assert "Apply complete! Resources: 2 added" in stdout


async def test_a_running_apply_is_cancelled(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    with agents.agent(cluster) as agent:
        provision_id = await user.create_provision(cluster.cluster_id, held())
        await agent.counts_to(1)
        await user.cancel_provision(provision_id)

        assert (await ended(user, provision_id)).status is Status.CANCELLED
    assert RELEASED not in await log_text(user, provision_id)


async def test_two_agents_share_a_cluster(agents: Agents, user: Owner) -> None:
    cluster = await user.register_cluster("two agents", max_concurrency=2)
    with (
        agents.agent(cluster, TENDRIL_CAPACITY="1") as one,
        agents.agent(cluster, TENDRIL_CAPACITY="1") as other,
    ):
        long_ones = [
            await user.create_provision(cluster.cluster_id, held(template))
            for template in ("held", "also_held")
        ]
        for agent in (one, other):
            await agent.counts_to(1)  # each has one, and is held by it
        for agent in (one, other):
            agent.let_go()
        short_ones = [
            await user.create_provision(cluster.cluster_id, snapshot(REPO)) for _ in range(4)
        ]
        for provision_id in (*long_ones, *short_ones):
            assert (await ended(user, provision_id)).status is Status.SUCCESS
        claimed = [_claimed(agent.log) for agent in (one, other)]
    assert sorted(claimed[0] + claimed[1]) == sorted([*long_ones, *short_ones])
    assert len(set(long_ones) & set(claimed[0])) == len(set(long_ones) & set(claimed[1])) == 1


def _claimed(log: str) -> list[ProvisionId]:
    return [ProvisionId(found) for found in re.findall(r"claimed provision (\S+),", log)]


async def test_a_stopped_agent_ends_what_it_runs_and_claims_nothing_more(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    codes: list[int] = []
    with agents.agent(cluster) as agent:
        running = await user.create_provision(cluster.cluster_id, held())
        await agent.counts_to(1)
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                codes.append(await agent.stopped(timeout_s=60))

            tasks.start_soon(stop)
            await agent.says("draining: 1 running")
            waiting = await user.create_provision(cluster.cluster_id, snapshot(REPO))
            agent.let_go()
        assert codes == [0]
        assert "nothing is left running" in agent.log
    assert (await ended(user, running)).status is Status.SUCCESS
    assert RELEASED in await log_text(user, running)
    state = await user.provision(waiting)
    assert state is not None
    assert state.status is Status.QUEUED


async def test_a_killed_agent_delivers_and_tells_the_truth_in_its_next_life(
    agents: Agents, cluster: Registration, user: Owner, state: str
) -> None:
    with agents.agent(cluster, state=state) as agent:
        provision_id = await user.create_provision(cluster.cluster_id, held())
        await agent.counts_to(1)
        agents.stage.network._unwrap_network.disconnect(agent.container)
        await agent.counts_to(agent.count() + 5)
        said_alone = agent.count()
        await agent.counts_to(said_alone + 20)  # 2 s later what was said is on the disk
        agent.kill()
        agents.stage.network.connect(agent.container.id)
        agent.container.start()

        verdict = await ended(user, provision_id)
    assert (verdict.status, verdict.error_code) == (Status.FAILED, "AGENT_RESTARTED")
    log = await log_text(user, provision_id)
    counted = [int(number) for number in re.findall(r"count (\d+)", log)]
    assert counted == list(range(1, len(counted) + 1))
    assert len(counted) >= said_alone


async def test_an_apply_outlives_the_loss_of_its_network(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    with agents.agent(cluster, TENDRIL_REQUEST_TIMEOUT_S="2") as agent:
        provision_id = await user.create_provision(cluster.cluster_id, held())
        await agent.counts_to(1)
        agents.stage.network._unwrap_network.disconnect(agent.container)
        await agent.counts_to(agent.count() + 30)
        agents.stage.network.connect(agent.container.id)
        agent.let_go()

        assert (await ended(user, provision_id)).status is Status.SUCCESS
    await _is_whole(user, provision_id)


async def test_an_apply_outlives_a_restart_of_the_database(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    postgres = agents.stage.postgres.get_wrapped_container()
    with agents.agent(cluster, TENDRIL_REQUEST_TIMEOUT_S="2") as agent:
        provision_id = await user.create_provision(cluster.cluster_id, held())
        await agent.counts_to(1)
        await anyio.to_thread.run_sync(postgres.restart)
        await agent.counts_to(agent.count() + 5)
        agent.let_go()

        assert (await ended(user, provision_id)).status is Status.SUCCESS
    await _is_whole(user, provision_id)


async def _is_whole(user: Owner, provision_id: ProvisionId) -> None:
    log = await log_text(user, provision_id)
    counted = [int(number) for number in re.findall(r"count (\d+)", log)]
    assert counted == list(range(1, len(counted) + 1))
    assert RELEASED in log
