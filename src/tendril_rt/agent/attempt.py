"""One provision under one lease, from the claim to exactly one outcome.

verify hash → workspace → git → variables → init → plan → apply → deliver the log → report. The
final status goes out only after the last chunk of log is stored. Whatever happens to a template or
to Terraform ends here as an outcome with a message that says what and how to mend it; the agent
goes on.
"""

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import anyio

from tendril_rt.agent.confidential import confidential_values
from tendril_rt.agent.lease import HeldLease, Interruption, LeaseKeeper
from tendril_rt.aio.backoff import Backoff
from tendril_rt.errors import (
    ConfigError,
    LeaseLost,
    Rejected,
    SnapshotError,
    SpoolError,
    StepError,
    TendrilError,
    TerraformError,
    Unauthorized,
    Unavailable,
)
from tendril_rt.logs import basin as basins
from tendril_rt.logs import folders
from tendril_rt.logs import spool as spools
from tendril_rt.logs.basin import Basin
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.segments import Limits
from tendril_rt.logs.shipper import Shipper
from tendril_rt.logs.spool import Spool
from tendril_rt.model import (
    Ack,
    Cancel,
    Chunk,
    Lease,
    Operation,
    Outcome,
    Phase,
    Provision,
    Snapshot,
    Status,
)
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.git import Git, without_credentials
from tendril_rt.runner.steps import StepResult
from tendril_rt.runner.terraform import Terraform
from tendril_rt.runner.workspace import Workspace, workspace
from tendril_rt.settings import RunnerSettings

_DELIVERY_AT_SHUTDOWN_S = 60.0
_SYNC_S = 5.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Control(Protocol):
    """What an attempt asks of the control plane."""

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack: ...

    async def finish(
        self, lease: Lease, outcome: Outcome, *, log_chunks: int, metadata: Mapping[str, object]
    ) -> None: ...


class Snapshots(Protocol):
    """Reads a provision's configuration."""

    def __call__(self, provision: Provision) -> Snapshot:
        """:raises SnapshotError: malformed, or not what its hash says"""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What every attempt of one agent shares.

    :ivar program: Terraform's path, *terraform_version* what it says it is
    :ivar environ: the agent's environment, of which children see an allow-list
    :ivar log_limits: what a spool may take, with the room that all of them share
    """

    settings: RunnerSettings
    log_limits: Limits
    state_dir: Path
    program: str
    terraform_version: str
    environ: Mapping[str, str]
    read_snapshot: Snapshots
    name: str

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "spool"


@dataclass(slots=True)
class _Notes:
    """What becomes ``execution_metadata``."""

    commit: str | None = None
    steps: list[StepResult] = field(default_factory=list)


class _Interrupted(StepError):
    """A step did not begin, or was cut short, because the attempt is to stop."""


class Attempt:
    """See the module. One instance runs once."""

    def __init__(
        self,
        provision: Provision,
        held: HeldLease,
        *,
        keeper: LeaseKeeper,
        control: Control,
        equipment: Equipment,
    ) -> None:
        self._provision = provision
        self._held = held
        self._keeper = keeper
        self._control = control
        self._equipment = equipment
        self._notes = _Notes()
        self._step = "preparation"
        self._redactor = Redactor(confidential_values(equipment.environ))
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
            reported = await self._run(spool)
            if self._undelivered:
                _log.warning("undelivered output of %s is kept in %s", lease.provision_id, path)
            else:
                folders.discard(path)
        return reported

    async def _run(self, spool: Spool) -> Outcome | None:
        outcome: Outcome | None = None
        shipper = Shipper(spool, _Sink(self._control, self._held.lease), on_cancel=self._on_cancel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._limit_delivery, tasks.cancel_scope)
            try:
                async with anyio.create_task_group() as shipping:
                    shipping.start_soon(self._ship, shipper)
                    outcome = await self._execute(spool)
                    self._executed.set()
                    spool.close()
                    if outcome is None:
                        shipping.cancel_scope.cancel()
            finally:
                self._undelivered = spool.next_seq - shipper.acked
                self._lost_bytes = spool.lost_bytes
            delivered = outcome is not None and await self._report(outcome, shipper.acked)
            tasks.cancel_scope.cancel()
            return outcome if delivered else None
        return None  # the time for delivery ran out

    async def _execute(self, spool: Spool) -> Outcome | None:
        started_at = time.monotonic()
        outcome: Outcome | None
        try:
            await self._steps(spool)
            outcome = Outcome(Status.SUCCESS)
        except (StepError, SnapshotError) as exc:
            outcome = self._outcome_of(exc)
        except Exception as exc:  # noqa: BLE001 - one outcome, whatever a template provokes
            _log.exception("attempt %s failed unexpectedly", self._held.lease.provision_id)
            outcome = Outcome(
                Status.FAILED,
                f"the agent failed during {self._step}: {type(exc).__name__}: {exc}. This is a "
                "fault of the agent: its own log has the details",
                TendrilError.code,
            )
        if outcome is not None:
            if outcome.error_message:
                shown = self._redactor.redact_text(outcome.error_message)
                outcome = replace(outcome, error_message=shown)
            duration_s = time.monotonic() - started_at
            message = f": {outcome.error_message}" if outcome.error_message else ""
            spool.system(f"{outcome.status.value} after {duration_s:.1f} s{message}")
        return outcome

    def _outcome_of(self, exc: StepError | SnapshotError) -> Outcome | None:
        why = self._held.interruption
        if why is None:
            return Outcome(Status.FAILED, str(exc), exc.code)
        if why is Interruption.FENCED_OUT:
            return None
        if why is Interruption.TRUST_ENDED and self._held.phase is not Phase.APPLY:
            return None  # not renewed any more, so the control plane gives it to another attempt
        detail = f"\n{exc}" if isinstance(exc, TerraformError) else ""
        if why is Interruption.CANCELLED:
            text = f"cancelled by its owner during {self._step}{detail}"
            return Outcome(Status.CANCELLED, text, "CANCELLED")
        if why is Interruption.SHUTDOWN:
            text = f"the agent was told to stop during {self._step}: submit it again{detail}"
            return Outcome(Status.FAILED, text, "AGENT_SHUTDOWN")
        text = f"the control plane could not be reached before {self._step}: submit it again"
        return Outcome(Status.FAILED, text, "CONTROL_PLANE_LOST")

    async def _steps(self, spool: Spool) -> None:
        provision, kit = self._provision, self._equipment
        lease = self._held.lease
        spool.system(f"provision {lease.provision_id}, attempt {lease.attempt}, by {kit.name}")
        snapshot = kit.read_snapshot(provision)
        self._redactor = Redactor(confidential_values(kit.environ, snapshot))
        async with workspace(kit.settings.workspace_dir, lease.provision_id) as space:
            with basins.create(space.root / basins.FILE_NAME) as basin:
                terraform = await self._prepare(snapshot, space, spool, basin)
                await self._terraform_step(spool, "init", terraform.init)
                self._held.phase = Phase.PLAN
                await self._terraform_step(
                    spool, "plan", lambda: terraform.plan(provision.operation)
                )
                if provision.operation is Operation.PLAN:
                    return
                self._step = "terraform apply"
                if not await self._keeper.confirm_apply(self._held):
                    raise _Interrupted("the apply was not begun")
                await self._terraform_step(spool, "apply", terraform.apply)

    async def _prepare(
        self, snapshot: Snapshot, space: Workspace, spool: Spool, basin: Basin
    ) -> Terraform:
        """Fetch the template and write its inputs."""
        kit = self._equipment
        env = child_environment(kit.environ, kit.settings.pass_env)
        git = Git(env, kit.settings.git_timeout_s, allow_file=kit.settings.allow_file_repos)
        source = snapshot.template
        async with self._announced(spool, f"cloning {without_credentials(source.repo)}"):
            checkout = await self._unless_interrupted(lambda: git.checkout(source, space.templates))
        self._notes.commit = checkout.commit
        spool.system(f"template {source.version} is commit {checkout.commit}")
        terraform = Terraform(
            kit.program,
            checkout.root_module,
            env,
            kit.state_dir / "tfstate",
            self._provision.stack_key,
            Reader(spool, basin, self._redactor),
            self._held.interrupt,
        )
        terraform.write_inputs(snapshot)
        return terraform

    async def _terraform_step(
        self, spool: Spool, name: str, step: Callable[[], Awaitable[StepResult]]
    ) -> None:
        async with self._announced(spool, f"terraform {name}"):
            if self._held.interrupt.is_set():
                raise _Interrupted(f"terraform {name} was not begun")
            try:
                self._notes.steps.append(await step())
            except TerraformError as exc:
                spool.system(f"terraform {name}: exit {exc.exit_code}")
                raise
            finally:
                with anyio.move_on_after(_SYNC_S, shield=True):
                    await spool.sync()

    @asynccontextmanager
    async def _announced(self, spool: Spool, step: str) -> AsyncIterator[None]:
        self._step = step
        spool.system(f"{step} …")
        started_at = time.monotonic()
        yield
        spool.system(f"{step}: done in {time.monotonic() - started_at:.1f} s")

    async def _unless_interrupted(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what *work* does, or cancel it when the attempt has to stop."""
        results: list[T] = []
        failures: list[StepError] = []
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                await self._held.interrupt.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch)
            try:
                results.append(await work())
            except StepError as exc:
                failures.append(exc)
            tasks.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if not results:
            raise _Interrupted("interrupted")
        return results[0]

    def _on_cancel(self, cancel: Cancel) -> None:
        if not self._executed.is_set():
            self._held.stop(Interruption.CANCELLED)

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
        while self._held.interruption is not Interruption.FENCED_OUT:
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

    def _metadata(self) -> dict[str, object]:
        return {
            "agent": {"id": self._held.lease.agent_id, "name": self._equipment.name},
            "commit": self._notes.commit,
            "undelivered_log_chunks": self._undelivered,
            "lost_log_bytes": self._lost_bytes,
            "terraform_version": self._equipment.terraform_version,
            "steps": [
                {"name": s.name, "exit_code": s.exit_code, "duration_s": round(s.duration_s, 3)}
                for s in self._notes.steps
            ],
        }


@dataclass(frozen=True, slots=True)
class _Sink:
    """The shipper's sink: the control plane, for one lease."""

    control: Control
    lease: Lease

    async def append_chunks(self, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        return await self.control.append_chunks(self.lease, first_seq, chunks)


def make_spool_dir(equipment: Equipment) -> None:
    """Make the folder of the spools, mode 0700.

    :raises ConfigError: the state directory is not writable
    """
    try:
        os.makedirs(equipment.spool_dir, mode=0o700, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"TENDRIL_STATE_DIR: cannot make {equipment.spool_dir} ({exc.strerror or exc})"
        ) from exc
