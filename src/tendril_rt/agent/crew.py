"""The attempts of one agent: those that it claims, and those that a former life of it left.

A former life's attempt is taken up before anything is claimed: its lease is held again, its
Terraform adopted if it lives, its outcome told if it has one. What nobody takes up any more is
cleared away only then: workspaces, and spools, which are delivered first. An attempt that fails
never takes the agent with it.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from tendril_rt.agent.attempt import Attempt, Control, LeaseSink
from tendril_rt.agent.correlation import correlated
from tendril_rt.agent.equipment import Equipment
from tendril_rt.agent.events import AttemptBegan, AttemptEnded, Observe
from tendril_rt.agent.lease import HeldLease, Interruption, LeaseKeeper
from tendril_rt.agent.record import AttemptRecord
from tendril_rt.agent.slots import Slots
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import SpoolError
from tendril_rt.logs import folders, leftovers
from tendril_rt.model import AgentId, Lease, Outcome, Phase, Provision, ProvisionId
from tendril_rt.runner import workspace

_log = logging.getLogger(__name__)


class Crew:
    """See the module.

    :param on_free: called when a slot was given back
    :param keep_spools_s: how long a log that cannot be delivered is kept, in seconds
    """

    def __init__(
        self,
        equipment: Equipment,
        keeper: LeaseKeeper,
        control: Control,
        *,
        slots: Slots,
        observe: Observe,
        on_free: Callable[[], None],
        keep_spools_s: float,
    ) -> None:
        self._equipment = equipment
        self._keeper = keeper
        self._control = control
        self._slots = slots
        self._observe = observe
        self._on_free = on_free
        self._keep_spools_s = keep_spools_s
        self._running: set[HeldLease] = set()
        self._is_ending = False
        self._left = Wakeup()

    @property
    def is_busy(self) -> bool:
        return bool(self._running)

    def interrupt(self) -> None:
        """Stop everything that runs, and what comes from now on: the agent ends."""
        self._is_ending = True
        for held in self._running:
            _log.warning("interrupting provision %s", held.lease.provision_id)
            held.stop(Interruption.SHUTDOWN)

    async def run(self, provision: Provision, claimed_at: float) -> None:
        """Run a claimed provision, whose slot is taken, to its end.

        :param claimed_at: the clock's reading when the claim was sent
        """
        lease = provision.lease

        async def live() -> Outcome | None:
            with self._held(lease, claimed_at) as held:
                _log.info("claimed provision %s, attempt %d", lease.provision_id, lease.attempt)
                return await self._attempt(provision, held).run()

        await self._to_its_end(lease, live)

    async def resume(
        self, record: AttemptRecord, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Take up an attempt of a former life, as :meth:`run` does.

        :param task_status: reported when the next heartbeat will carry its lease
        """
        lease = record.provision.lease

        async def live() -> Outcome | None:
            with self._held(lease, None) as held:
                held.phase = record.phase
                held.is_applying = record.phase is Phase.APPLY and record.has_begun("apply")
                task_status.started()
                _log.warning(
                    "taking up provision %s, attempt %d, in step %s",
                    *(lease.provision_id, lease.attempt, record.step),
                )
                if not (held.is_applying or record.outcome):
                    await self._keeper.confirm(held)  # nothing new is begun before
                return await self._attempt(record.provision, held, record).resume()

        self._slots.take_over()
        await self._to_its_end(lease, live)

    def _attempt(
        self, provision: Provision, held: HeldLease, record: AttemptRecord | None = None
    ) -> Attempt:
        return Attempt(
            provision,
            held,
            keeper=self._keeper,
            control=self._control,
            equipment=self._equipment,
            record=record,
        )

    async def _to_its_end(
        self, lease: Lease, live: Callable[[], Awaitable[Outcome | None]]
    ) -> None:
        outcome: Outcome | None = None
        with correlated(provision=lease.provision_id, attempt=lease.attempt):
            self._observe(AttemptBegan(lease))
            try:
                outcome = await live()
                said = outcome.status.value if outcome else "left to the control plane"
                _log.info("provision %s: %s", lease.provision_id, said)
            except Exception:  # noqa: BLE001 - one attempt must not take the others with it
                # The lease is no longer renewed, so the control plane takes the provision back.
                _log.exception("attempt %d of provision %s", lease.attempt, lease.provision_id)
            finally:
                self._observe(AttemptEnded(lease, outcome.status if outcome else None))
                self._slots.give_back()
                self._left.set()
                self._on_free()

    @contextmanager
    def _held(self, lease: Lease, claimed_at: float | None) -> Iterator[HeldLease]:
        with self._keeper.hold(lease, claimed_at=claimed_at) as held:
            self._running.add(held)
            if self._is_ending:
                held.stop(Interruption.SHUTDOWN)
            try:
                yield held
            finally:
                self._running.discard(held)

    async def clear_workspaces(self, agent_id: AgentId, taken_up: set[ProvisionId]) -> None:
        """Stop and remove what former lives of this agent left and nobody takes up."""
        base = self._equipment.settings.workspace_dir
        for found in await anyio.to_thread.run_sync(workspace.leftovers, base, taken_up):
            if found.owner not in ("", agent_id):  # its agent may come back for it
                workspace.release(found)
                continue
            _log.warning("removing the workspace of provision %s, left over", found.provision_id)
            await workspace.end_processes(found.workspace)
            await anyio.to_thread.run_sync(workspace.remove, found)

    async def clear_spools(self) -> None:
        """Deliver what attempts left in their spools, then and whenever one has ended.

        Runs until cancelled, which is safe: what was not delivered stays on disk.
        """
        spool_dir, limits = self._equipment.spool_dir, self._equipment.log_limits
        while True:
            for folder in await anyio.to_thread.run_sync(folders.all_in, spool_dir):
                if folder not in self._spools_in_use():
                    await self._deliver(folder)
            prune = functools.partial(
                leftovers.prune,
                spool_dir,
                keep_s=self._keep_spools_s,
                max_bytes=limits.allowance.limit_bytes,
                in_use=self._spools_in_use(),
            )
            await anyio.to_thread.run_sync(prune)
            await self._left.wait()

    async def _deliver(self, folder: Path) -> None:
        def sink(lease: Lease) -> LeaseSink:
            return LeaseSink(self._control, lease)

        try:
            done = await leftovers.deliver(folder, self._equipment.log_limits, sink)
        except SpoolError as exc:
            _log.error("%s", exc)
            return
        if done.is_complete:
            lease = done.lease
            _log.info(
                "delivered what was left of the log of provision %s, attempt %d",
                *(lease.provision_id, lease.attempt),
            )

    def _spools_in_use(self) -> set[Path]:
        spool_dir = self._equipment.spool_dir
        return {folders.folder_of(spool_dir, held.lease) for held in self._running}
