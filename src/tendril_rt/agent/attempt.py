"""One provision under one lease, from the claim to exactly one outcome.

run the steps → deliver the log → report. The final status goes out only after the last chunk of
log is stored. Whatever happens to a template or to Terraform ends here as an outcome with a
message that says what and how to mend it; the agent goes on. What an attempt would need after a
crash of the agent stands in its record, from the claim until nothing is left to say.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from tendril_rt.agent.equipment import Equipment
from tendril_rt.agent.lease import HeldLease, Interruption, LeaseKeeper
from tendril_rt.agent.outcome import outcome_of, unexpected
from tendril_rt.agent.record import AttemptRecord
from tendril_rt.agent.run import Run
from tendril_rt.aio.backoff import Backoff
from tendril_rt.errors import (
    LeaseLost,
    Rejected,
    SignatureError,
    SnapshotError,
    SpoolError,
    StepError,
    Unauthorized,
    Unavailable,
)
from tendril_rt.logs import folders
from tendril_rt.logs import spool as spools
from tendril_rt.logs.shipper import Shipper
from tendril_rt.logs.spool import Spool
from tendril_rt.model import ENDING, Ack, Cancel, Chunk, Lease, Outcome, Phase, Provision, Status
from tendril_rt.runner.attended import end_leftover
from tendril_rt.runner.steps import STOP_POLICIES

_DELIVERY_AT_SHUTDOWN_S = ENDING.deliver_s
_PATIENT = STOP_POLICIES["apply"]

_log = logging.getLogger(__name__)


class Control(Protocol):
    """What an attempt asks of the control plane."""

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack: ...

    async def finish(
        self, lease: Lease, outcome: Outcome, *, log_chunks: int, metadata: Mapping[str, object]
    ) -> None: ...


class Attempt:
    """See the module. One instance runs once, by :meth:`run` or, after a crash, :meth:`resume`.

    :param record: of the attempt before the crash
    """

    def __init__(
        self,
        provision: Provision,
        held: HeldLease,
        *,
        keeper: LeaseKeeper,
        control: Control,
        equipment: Equipment,
        record: AttemptRecord | None = None,
    ) -> None:
        self._provision = provision
        self._held = held
        self._keeper = keeper
        self._control = control
        self._equipment = equipment
        self._record = record or AttemptRecord(provision, started_at=time.time())
        self._was_resumed = record is not None
        self._was_over = self._record.outcome is not None
        self._executed = anyio.Event()
        self._undelivered = 0
        self._lost_bytes = 0

    async def run(self) -> Outcome | None:
        """Run to the end and report it; None when this attempt has nothing to say any more.

        Cancellation: Terraform is stopped by the policy of its step; nothing is reported.
        """
        lease, limits = self._held.lease, self._equipment.log_limits
        return await self._with(lambda folder: spools.create(folder, lease, limits))

    async def resume(self) -> Outcome | None:
        """Take up where the record says, and go on as :meth:`run` does.

        A Terraform that lives is adopted, one that has ended is read to its end; a run that had its
        outcome already is only delivered and reported. The caller holds the lease again, in the
        record's phase.

        Cancellation: as for :meth:`run`.
        """
        return await self._with(lambda folder: spools.reopen(folder, self._equipment.log_limits))

    async def _with(
        self, opened: Callable[[Path], AbstractContextManager[Spool]]
    ) -> Outcome | None:
        folder = folders.folder_of(self._equipment.spool_dir, self._held.lease)
        with ExitStack() as stack:
            try:  # in a thread: it may have to read all of it
                spool = await anyio.to_thread.run_sync(stack.enter_context, opened(folder))
            except SpoolError as exc:
                return await self._give_up(exc)
            self._record.save(self._equipment.record_dir)
            reported = await self._run(spool)
        if self._undelivered:
            _log.warning(
                "%d chunks of the log of %s are kept in %s",
                self._undelivered,
                self._held.lease.provision_id,
                folder,
            )
        else:
            await anyio.to_thread.run_sync(folders.discard, folder)
        return reported

    async def _give_up(self, exc: SpoolError) -> Outcome | None:
        """Report that there can be no log, with nothing left running."""
        if self._record.run_root is not None:
            step = self._record.step
            await end_leftover(self._record.run_root / step, STOP_POLICIES.get(step, _PATIENT))
        outcome = self._record.outcome or Outcome(Status.FAILED, str(exc), exc.code)
        is_reported = await self._report(outcome, log_chunks=0)
        self._record.discard(self._equipment.record_dir)
        return outcome if is_reported else None

    @property
    def undelivered_chunks(self) -> int:
        """How many chunks of log the control plane did not take; 0 as long as the attempt runs."""
        return self._undelivered

    async def _run(self, spool: Spool) -> Outcome | None:
        outcome: Outcome | None = None
        shipper = Shipper(
            spool, LeaseSink(self._control, self._held.lease), on_cancel=self._on_cancel
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._limit_delivery, tasks.cancel_scope)
            try:
                async with anyio.create_task_group() as shipping:
                    shipping.start_soon(self._ship, shipper)
                    outcome = self._record.outcome or await self._execute(spool, shipping)
                    self._executed.set()
                    spool.close()
                    if outcome is None:
                        shipping.cancel_scope.cancel()
            finally:
                self._undelivered = spool.next_seq - shipper.acked
                self._lost_bytes = spool.lost_bytes
            delivered = outcome is not None and await self._report(outcome, shipper.acked)
            self._record.discard(self._equipment.record_dir)
            tasks.cancel_scope.cancel()
            return outcome if delivered else None
        return None  # the time for delivery ran out

    async def _execute(self, spool: Spool, beside: TaskGroup) -> Outcome | None:
        lease, started_at = self._held.lease, time.monotonic()
        if not self._was_resumed:
            who = f"attempt {lease.attempt}, by {self._equipment.name}"
            spool.system(f"provision {lease.provision_id}, {who}")
        run = Run(
            self._record,
            self._held,
            keeper=self._keeper,
            equipment=self._equipment,
            spool=spool,
            beside=beside,
        )
        async with AsyncExitStack() as holding:
            outcome = await self._outcome_of(run, holding)
            if outcome is not None:
                if outcome.error_message:
                    shown = run.redactor.redact_text(outcome.error_message)
                    outcome = replace(outcome, error_message=shown)
                duration_s = time.monotonic() - started_at
                message = f": {outcome.error_message}" if outcome.error_message else ""
                spool.system(f"{outcome.status.value} after {duration_s:.1f} s{message}")
                self._record.step, self._record.outcome = "report", outcome
                self._record.save(self._equipment.record_dir)
            spool.close()  # its end is delivered while the workspace is removed
        return outcome

    async def _outcome_of(self, run: Run, holding: AsyncExitStack) -> Outcome | None:
        try:
            await run.to_end(holding)
            return Outcome(Status.SUCCESS)
        except (StepError, SnapshotError, SignatureError) as exc:
            await self._learn_why()
            return outcome_of(
                exc,
                interruption=self._held.interruption,
                phase=self._held.phase,
                step=run.label,
                was_resumed=self._was_resumed,
            )
        except Exception as exc:  # noqa: BLE001 - one outcome, whatever a template provokes
            _log.exception("attempt %s failed unexpectedly", self._held.lease.provision_id)
            return unexpected(exc, run.label)

    async def _learn_why(self) -> None:
        """Wait to hear what interrupted the step in a former life: a cancel, for example.

        Nothing is lost by it: the outcome cannot be reported before that either.
        """
        held = self._held
        if self._was_resumed and self._record.was_interrupted and held.interruption is None:
            _log.warning("it was interrupted before the restart: asking the control plane why")
            await self._keeper.confirm(held)

    def _on_cancel(self, cancel: Cancel) -> None:
        if not self._executed.is_set():
            self._held.cancel(cancel)

    async def _ship(self, shipper: Shipper) -> None:
        try:
            await shipper.run()
        except LeaseLost as exc:
            _log.error("logs of %s: %s", self._held.lease.provision_id, exc)
            self._held.stop(Interruption.FENCED_OUT)
        except (Rejected, SpoolError) as exc:
            _log.error("logs of %s cannot be delivered: %s", self._held.lease, exc)

    async def _limit_delivery(self, scope: anyio.CancelScope) -> None:
        """At a shutdown, what cannot be delivered in time stays in the spool."""
        await self._executed.wait()
        await self._held.shutdown.wait()
        await anyio.sleep(_DELIVERY_AT_SHUTDOWN_S)
        scope.cancel()

    async def _report(self, outcome: Outcome, log_chunks: int) -> bool:
        """Report until it is taken; False if this attempt is no longer the one to say it."""
        backoff = Backoff(0.5, 5.0)
        while not self._is_superseded:
            try:
                await self._control.finish(
                    self._held.lease, outcome, log_chunks=log_chunks, metadata=self._metadata()
                )
            except (Unavailable, Unauthorized) as exc:  # a key may be put right again
                delay_s = backoff.next_s()
                _log.warning("cannot report the outcome: %s; next try in %.1f s", exc, delay_s)
                await anyio.sleep(delay_s)
            except Rejected as exc:
                _log.error("the outcome of %s was refused: %s", self._held.lease, exc)
                return False
            else:
                return True
        return False

    @property
    def _is_superseded(self) -> bool:
        """Tell whether another attempt speaks for the provision.

        Never so for an apply: it is not repeated, and its outcome is wanted even if the control
        plane has gone on without it. Nor for an outcome of before a crash: the control plane knows
        what it is worth.
        """
        is_fenced = self._held.interruption is Interruption.FENCED_OUT
        return is_fenced and self._held.phase is not Phase.APPLY and not self._was_over

    def _metadata(self) -> dict[str, object]:
        return {
            "agent": {"id": self._held.lease.agent_id, "name": self._equipment.name},
            "undelivered_log_chunks": self._undelivered,
            "lost_log_bytes": self._lost_bytes,
            "terraform_version": self._equipment.terraform_version,
            "steps": [
                {"name": s.name, "exit_code": s.exit_code, "duration_s": round(s.duration_s, 3)}
                for s in self._record.steps
            ],
            **self._record.facts,
        }


@dataclass(frozen=True, slots=True)
class LeaseSink:
    """The shipper's sink: the control plane, for one lease."""

    control: Control
    lease: Lease

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        return await self.control.append_chunks(self.lease, first_seq, chunks)
