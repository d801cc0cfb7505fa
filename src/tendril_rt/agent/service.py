"""The agent as a whole: the root task group, boot, and the phases of its end.

Boot: identity → Terraform found → first heartbeat → intake, lease keeper and listener side by side.
End: drain (claim nothing, finish what runs) → interrupt (at grace - 120 s or on the second signal)
→ exit. An attempt that fails never takes the agent with it.
"""

import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup, TaskStatus

from tendril_rt import __version__
from tendril_rt.agent.attempt import Attempt, Equipment, make_spool_dir
from tendril_rt.agent.identity import identity
from tendril_rt.agent.intake import Intake
from tendril_rt.agent.lease import HeldLease, Interruption, LeaseKeeper
from tendril_rt.agent.slots import Slots
from tendril_rt.aio.backoff import Backoff
from tendril_rt.control import wire
from tendril_rt.control.client import AgentInfo, ControlPlane, control_plane
from tendril_rt.control.realtime import Listener
from tendril_rt.errors import Unavailable
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.model import AgentId, ClaimId, HeartbeatAnswer, Lease, Phase, Provision, Snapshot
from tendril_rt.runner import terraform
from tendril_rt.runner.environment import child_environment
from tendril_rt.settings import RunnerSettings, Settings

_INTERRUPT_BEFORE_END_S = 120.0

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
    task_status: TaskStatus[AgentId] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Be an agent until *shutdown* is asked for and everything running has ended.

    :param task_status: reported after the first accepted heartbeat
    :raises ConfigError: the state directory cannot be used
    :raises StepError: Terraform is not there
    :raises Unauthorized: the control plane does not know this agent
    """
    with identity(settings.agent.state_dir) as agent_id:
        equipment = await _equip(settings, environ)
        make_spool_dir(equipment)
        async with control_plane(settings.control) as control:
            await _Service(settings, agent_id, control, equipment, shutdown).run(task_status)


async def _equip(settings: Settings, environ: Mapping[str, str]) -> Equipment:
    program = terraform.find(settings.runner.terraform, environ.get("PATH"))
    version = await terraform.version_of(
        program, cwd=settings.agent.state_dir, env=child_environment(environ)
    )
    return Equipment(
        settings=settings.runner,
        log_limits=Limits(
            settings.logs.spool_max_bytes, Allowance(settings.logs.spool_total_max_bytes)
        ),
        state_dir=settings.agent.state_dir,
        program=program,
        terraform_version=version,
        environ=environ,
        read_snapshot=_SnapshotReader(settings.runner),
        name=socket.gethostname(),
    )


@dataclass(frozen=True, slots=True)
class _SnapshotReader:
    """Checks the hash, then reads."""

    settings: RunnerSettings

    def __call__(self, provision: Provision) -> Snapshot:
        wire.check_hash(
            provision.snapshot_json,
            provision.configuration_hash,
            required=self.settings.require_configuration_hash,
        )
        return wire.parse_snapshot(provision.snapshot_json)


class _Service:
    def __init__(
        self,
        settings: Settings,
        agent_id: AgentId,
        control: ControlPlane,
        equipment: Equipment,
        shutdown: Shutdown,
    ) -> None:
        self._settings = settings
        self._info = AgentInfo(agent_id, equipment.name, __version__, settings.agent.capacity)
        self._control = control
        self._equipment = equipment
        self._shutdown = shutdown
        self._running: set[HeldLease] = set()
        self._slots = Slots(settings.agent.capacity)
        self._attempts: TaskGroup
        self._intake = Intake(
            claim=self._claim,
            start=self._start,
            slots=self._slots,
            poll_interval_s=settings.agent.poll_interval_s,
        )
        self._keeper = LeaseKeeper(
            self._beat,
            interval_s=settings.agent.heartbeat_interval_s,
            on_drain=self._intake.pause,
        )

    async def run(self, task_status: TaskStatus[AgentId]) -> None:
        if not await self._introduce():
            return
        task_status.started(self._info.agent_id)
        async with anyio.create_task_group() as background:
            background.start_soon(self._keeper.run)
            async with anyio.create_task_group() as attempts:
                self._attempts = attempts
                background.start_soon(self._watch_shutdown)
                if self._settings.control.realtime:
                    background.start_soon(self._listen)
                await self._intake.run()
                _log.info("draining: %d running", self._slots.used)
            background.cancel_scope.cancel()
        _log.info("ended; nothing is left running")

    async def _introduce(self) -> bool:
        """Send the first heartbeat, as often as it takes; False if told to end before.

        :raises Rejected: the control plane does not want this agent
        """
        backoff = Backoff(1.0, 30.0, floor_s=0.5)
        while not self._shutdown.drain.is_set():
            try:
                await self._keeper.beat()
            except Unavailable as exc:
                delay_s = backoff.next_s()
                _log.error("cannot reach the control plane, next try in %.1f s: %s", delay_s, exc)
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
        return await self._control.heartbeat(
            self._info, leases, is_draining=self._shutdown.drain.is_set()
        )

    async def _claim(self, claim_id: ClaimId) -> Provision | None:
        return await self._control.claim(self._info.agent_id, claim_id)

    def _start(self, provision: Provision, claimed_at: float) -> None:
        self._attempts.start_soon(self._attempt, provision, claimed_at)

    async def _listen(self) -> None:
        await Listener(
            self._settings.control,
            fetch_token=self._control.realtime_token,
            wake=self._intake.wakeup.set,
        ).run()

    async def _attempt(self, provision: Provision, claimed_at: float) -> None:
        lease = provision.lease
        _log.info("claimed provision %s, attempt %d", lease.provision_id, lease.attempt)
        try:
            with self._keeper.hold(lease, claimed_at=claimed_at) as held:
                self._running.add(held)
                if self._shutdown.interrupt.is_set():
                    held.stop(Interruption.SHUTDOWN)
                attempt = Attempt(
                    provision,
                    held,
                    keeper=self._keeper,
                    control=self._control,
                    equipment=self._equipment,
                )
                try:
                    outcome = await attempt.run()
                finally:
                    self._running.discard(held)
            _log.info(
                "provision %s: %s",
                lease.provision_id,
                outcome.status.value if outcome else "left to the control plane",
            )
        except Exception:  # noqa: BLE001 - one attempt must not take the others with it
            # The lease is no longer renewed, so the control plane takes the provision back.
            _log.exception("attempt %d of provision %s", lease.attempt, lease.provision_id)
        finally:
            self._slots.give_back()
            self._intake.wakeup.set()

    async def _watch_shutdown(self) -> None:
        await self._shutdown.drain.wait()
        self._intake.drain()
        self._keeper.beat_soon()  # the control plane learns of it now
        with anyio.move_on_after(max(0.0, self._settings.agent.grace_s - _INTERRUPT_BEFORE_END_S)):
            await self._shutdown.interrupt.wait()
        self._shutdown.request_interrupt()  # also for a claim whose answer is still under way
        for held in self._running:
            _log.warning("interrupting provision %s", held.lease.provision_id)
            held.stop(Interruption.SHUTDOWN)
