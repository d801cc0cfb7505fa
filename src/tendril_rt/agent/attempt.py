"""One provision under one lease, from the claim to exactly one outcome.

run the steps → deliver the log → report. The final status goes out only after the last chunk of
log is stored. Whatever happens to a template or to Terraform ends here as an outcome with a
message that says what and how to mend it; the agent goes on. What an attempt would need after a
crash of the agent stands in its record, from the claim until nothing is left to say.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import anyio

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

_DELIVERY_AT_SHUTDOWN_S = ENDING.deliver_s

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
        self._executed = anyio.Event()
        self._undelivered = 0
        self._lost_bytes = 0

    async def run(self) -> Outcome | None:
        """Run to the end and report it; None when this attempt has nothing to say any more.

        Cancellation: Terraform is stopped by the policy of its step; nothing is reported.
        """
        lease = self._held.lease
        path = folders.folder_of(self._equipment.spool_dir, lease)
        with ExitStack() as stack:
            try:
                spool = stack.enter_context(spools.create(path, lease, self._equipment.log_limits))
            except SpoolError as exc:
                outcome = Outcome(Status.FAILED, str(exc), exc.code)
                return outcome if await self._report(outcome, log_chunks=0) else None
            self._record.save(self._equipment.record_dir)
            reported = await self._run(spool)
            if self._undelivered:
                _log.warning("undelivered output of %s is kept in %s", lease.provision_id, path)
            else:
                folders.discard(path)
        return reported

    async def resume(self, spool: Spool) -> Outcome | None:
        """Take up where the record says, and go on as :meth:`run` does.

        A Terraform that lives is adopted, one that has ended is read to its end; a run that had its
        outcome already is only delivered and reported. The caller holds the lease again, in the
        record's phase, and keeps or discards *spool*, which holds the attempt's log so far.

        Cancellation: as for :meth:`run`.
        """
        return await self._run(spool)

    @property
    def undelivered_chunks(self) -> int:
        """How many chunks of log the control plane did not take; 0 as long as the attempt runs."""
        return self._undelivered

    async def _run(self, spool: Spool) -> Outcome | None:
        outcome: Outcome | None = None
        shipper = Shipper(spool, _Sink(self._control, self._held.lease), on_cancel=self._on_cancel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._limit_delivery, tasks.cancel_scope)
            try:
                async with anyio.create_task_group() as shipping:
                    shipping.start_soon(self._ship, shipper)
                    outcome = self._record.outcome or await self._execute(spool)
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

    async def _execute(self, spool: Spool) -> Outcome | None:
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
        )
        outcome: Outcome | None
        try:
            await run.to_end()
            outcome = Outcome(Status.SUCCESS)
        except (StepError, SnapshotError, SignatureError) as exc:
            outcome = outcome_of(
                exc,
                interruption=self._held.interruption,
                phase=self._held.phase,
                step=run.label,
                was_resumed=self._was_resumed,
            )
        except Exception as exc:  # noqa: BLE001 - one outcome, whatever a template provokes
            _log.exception("attempt %s failed unexpectedly", lease.provision_id)
            outcome = unexpected(exc, run.label)
        if outcome is not None:
            if outcome.error_message:
                shown = run.redactor.redact_text(outcome.error_message)
                outcome = replace(outcome, error_message=shown)
            duration_s = time.monotonic() - started_at
            message = f": {outcome.error_message}" if outcome.error_message else ""
            spool.system(f"{outcome.status.value} after {duration_s:.1f} s{message}")
            self._record.step, self._record.outcome = "report", outcome
            self._record.save(self._equipment.record_dir)
        return outcome

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
        """Tell whether another attempt speaks for the provision. Never so for an apply: it is not
        repeated, and its outcome is wanted even if the control plane has gone on without it."""
        is_fenced = self._held.interruption is Interruption.FENCED_OUT
        return is_fenced and self._held.phase is not Phase.APPLY

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
class _Sink:
    """The shipper's sink: the control plane, for one lease."""

    control: Control
    lease: Lease

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        return await self.control.append_chunks(self.lease, first_seq, chunks)
