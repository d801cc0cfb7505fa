"""The agent as a whole: the root task group, boot, and the phases of its end.

Boot: identity → Terraform found → first heartbeat → intake, lease keeper and listener side by side.
End: drain (claim nothing, finish what runs) → interrupt (when only ``settings.ENDING`` is left of
the grace, or on the second signal) → exit. An attempt that fails never takes the agent with it.
"""

import logging
from collections.abc import Mapping

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from tendril_rt import __version__
from tendril_rt.agent.correlation import correlated
from tendril_rt.agent.crew import Crew
from tendril_rt.agent.disk_floor import DiskFloor
from tendril_rt.agent.equipment import Equipment, equip
from tendril_rt.agent.events import Draining, Observe, ignore
from tendril_rt.agent.identity import identity
from tendril_rt.agent.instruments import instruments
from tendril_rt.agent.intake import Intake
from tendril_rt.agent.lease import LeaseKeeper
from tendril_rt.agent.observed import ObservedControl
from tendril_rt.agent.record import load_all
from tendril_rt.agent.slots import Slots
from tendril_rt.aio.backoff import Backoff
from tendril_rt.aio.suspend import watch_suspends
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control.client import AgentInfo, control_plane
from tendril_rt.control.listener import Listener
from tendril_rt.control.push import Cause, Claimed, PushEvent, log_event
from tendril_rt.errors import ControlPlaneError
from tendril_rt.model import (
    AgentId,
    ClaimId,
    HeartbeatAnswer,
    Lease,
    Phase,
    Provision,
    ProvisionId,
)
from tendril_rt.settings import Settings

_NEWS_INTERVAL_S = 1.0  # between heartbeats that wakeups ask for, and after a claim

_log = logging.getLogger(__name__)


class Shutdown:
    """The two phases of an agent's end, asked for from outside."""

    def __init__(self) -> None:
        self.drain = anyio.Event()
        self.interrupt = anyio.Event()

    def request_drain(self) -> None:
        self.drain.set()

    def request_interrupt(self) -> None:
        self.drain.set()
        self.interrupt.set()


async def serve(
    settings: Settings,
    environ: Mapping[str, str],
    shutdown: Shutdown,
    *,
    once: bool = False,
    on_event: Observe = ignore,
    task_status: TaskStatus[AgentId] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Be an agent until *shutdown* is asked for and everything running has ended.

    :param once: claim one provision, and end with it
    :param on_event: is told what happens, from the event loop; must not raise (agent/events.py)
    :param task_status: reported after the first accepted heartbeat
    :raises ConfigError: the state directory or the health port cannot be used
    :raises StepError: Terraform is not there
    :raises ExceptionGroup: of Unauthorized: the control plane does not know this agent
    """
    with (
        identity(settings.agent.state_dir) as agent_id,
        correlated(agent=agent_id, cluster=settings.control.cluster_id),
    ):
        equipment = await equip(settings, environ)
        equipment.make_folders()
        async with (
            instruments(
                settings, terraform=equipment.terraform_version, on_event=on_event
            ) as observe,
            control_plane(settings.control) as control,
        ):
            observed = ObservedControl(control, observe)
            service = _Service(settings, agent_id, observed, equipment, shutdown, observe)
            await service.run(task_status, once=once)


class _Service:
    def __init__(
        self,
        settings: Settings,
        agent_id: AgentId,
        control: ObservedControl,
        equipment: Equipment,
        shutdown: Shutdown,
        observe: Observe,
    ) -> None:
        self._settings = settings
        self._info = AgentInfo(
            agent_id,
            equipment.name,
            __version__,
            settings.agent.capacity,
            settings.agent.install_id,
        )
        self._control = control
        self._equipment = equipment
        self._shutdown = shutdown
        self._observe = observe
        self._once = False
        self._slots = Slots(settings.agent.capacity)
        self._attempts: TaskGroup
        self._intake = Intake(
            claim=self._claim,
            start=self._start,
            slots=self._slots,
            poll_interval_s=settings.agent.poll_interval_s,
            has_room=DiskFloor(
                (settings.runner.workspace_dir, settings.agent.state_dir),
                settings.runner.disk_floor_bytes,
            ).has_room,
            on_claimed=self._note_claim,
        )
        self._keeper = LeaseKeeper(
            self._beat,
            interval_s=settings.agent.heartbeat_interval_s,
            on_drain=self._intake.pause,
        )
        self._crew = Crew(
            equipment,
            self._keeper,
            control,
            slots=self._slots,
            observe=observe,
            on_free=lambda: self._intake.wake(Cause.SLOT),
            keep_spools_s=settings.logs.spool_keep_s,
        )
        self._news = Wakeup()
        self._claimed_at = float("-inf")
        self._listener = Listener(
            settings.control,
            fetch_token=control.realtime_token,
            wake=self._intake.wake,
            heed=self._news.set,
            probe=self._keeper.beat_soon,
            on_event=self._note_push,
        )

    async def run(self, task_status: TaskStatus[AgentId], *, once: bool) -> None:
        self._once = once
        async with anyio.create_task_group() as background:
            async with anyio.create_task_group() as attempts:
                self._attempts = attempts
                background.start_soon(self._watch_shutdown)
                taken_up = await self._take_up()
                background.start_soon(self._keeper.run)
                if await self._introduce():
                    task_status.started(self._info.agent_id)
                    await self._crew.clear_workspaces(self._info.agent_id, taken_up)
                    background.start_soon(self._crew.clear_spools)
                    background.start_soon(watch_suspends, self._wake_up)
                    if self._settings.control.realtime:
                        background.start_soon(self._listener.run)
                        background.start_soon(self._heed_news)
                    await self._intake.run()
                _log.info("draining: %d running", self._slots.used)
            background.cancel_scope.cancel()
        _log.info("ended; nothing is left running")

    async def _take_up(self) -> set[ProvisionId]:
        """Take up what a former life of this agent left; return which provisions that are."""
        records = await anyio.to_thread.run_sync(load_all, self._equipment.record_dir)
        for record in records:
            await self._attempts.start(self._crew.resume, record)
        if records and self._once:
            self._intake.drain()
        return {record.provision.lease.provision_id for record in records}

    async def _introduce(self) -> bool:
        """Send the first heartbeat, as often as it takes; False if told to end before.

        :raises Rejected: the control plane does not want this agent, for which nothing runs
        """
        backoff = Backoff(1.0, 30.0, floor_s=0.5)
        while not self._shutdown.drain.is_set() or self._crew.is_busy:
            try:
                await self._keeper.beat()
            except ControlPlaneError as exc:
                if not (exc.retryable or self._crew.is_busy):
                    raise
                delay_s = backoff.next_s()
                _log.error("cannot reach the control plane, next try in %.1f s: %s", delay_s, exc)
                if self._shutdown.drain.is_set():
                    await anyio.sleep(delay_s)
                else:
                    with anyio.move_on_after(delay_s):
                        await self._shutdown.drain.wait()
            else:
                _log.info(
                    "online: cluster %s, agent %s, %s, at most %d at once",
                    self._settings.control.cluster_id,
                    self._info.agent_id,
                    self._equipment.terraform_version,
                    self._info.capacity,
                )
                return True
        return False

    async def _beat(self, leases: Mapping[Lease, Phase]) -> HeartbeatAnswer:
        sent_at = anyio.current_time()
        self._listener.beat_sent(sent_at)
        answer = await self._control.heartbeat(
            self._info, leases, is_draining=self._shutdown.drain.is_set()
        )
        self._listener.beat_answered(sent_at)
        return answer

    async def _claim(self, claim_id: ClaimId) -> Provision | None:
        return await self._control.claim(self._info.agent_id, claim_id)

    def _start(self, provision: Provision, claimed_at: float) -> None:
        self._claimed_at = claimed_at
        self._attempts.start_soon(self._crew.run, provision, claimed_at)
        if self._once:
            self._intake.drain()

    def _note_claim(self, claim: Claimed) -> None:
        self._listener.claimed(claim)

    def _note_push(self, event: PushEvent) -> None:
        log_event(event)
        self._observe(event)

    async def _heed_news(self) -> None:
        """Let a wakeup bring a heartbeat, whose answer says what was cancelled; not too often.

        No loop: a heartbeat comes back as a pulse, and only wakeups are heeded.
        """
        while True:
            await self._news.wait()
            # Mostly the wakeup of what was claimed a moment ago, come by another way.
            await anyio.sleep_until(self._claimed_at + _NEWS_INTERVAL_S)
            if self._crew.is_busy:
                self._keeper.beat_soon()
                await anyio.sleep(_NEWS_INTERVAL_S)

    def _wake_up(self, slept_s: float) -> None:
        _log.warning("the machine slept for %.0f s", slept_s)
        self._intake.wake(Cause.SWEEP)
        self._keeper.slept(slept_s)
        self._keeper.beat_soon()
        self._listener.restart(f"the machine slept for {slept_s:.0f} s")

    async def _watch_shutdown(self) -> None:
        await self._shutdown.drain.wait()
        self._intake.drain()
        self._observe(Draining())
        self._keeper.beat_soon()  # the control plane learns of it now
        with anyio.move_on_after(self._settings.agent.drain_s):
            await self._shutdown.interrupt.wait()
        self._shutdown.request_interrupt()  # also for a claim whose answer is still under way
        self._crew.interrupt()
