"""The steps of one run, in order, from the template to the outputs.

prepare → init → (cost) → plan → apply → (outputs). Each step is noted in the attempt's record
before it begins and after it has ended; a run that is taken up again skips what was done, adopts
the process of the step that it was in, and goes on. Raises what ended it; an outcome is made
elsewhere.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from tendril_rt.agent.confidential import confidential_values, redacted
from tendril_rt.agent.equipment import Equipment
from tendril_rt.agent.lease import HeldLease, LeaseKeeper
from tendril_rt.agent.record import AttemptRecord
from tendril_rt.errors import (
    OutOfTime,
    ProcessLost,
    StepError,
    TerraformError,
    WorkspaceError,
)
from tendril_rt.logs import basin as basins
from tendril_rt.logs.basin import Basin
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.spool import Spool
from tendril_rt.model import Operation, Phase, Snapshot
from tendril_rt.runner import infracost, locks
from tendril_rt.runner.attended import StopPolicy
from tendril_rt.runner.backend import StackDir, configured_type
from tendril_rt.runner.disk import limited
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.git import Git
from tendril_rt.runner.launched import RunFolder
from tendril_rt.runner.locks import LockHistory, LockUse, Noted
from tendril_rt.runner.procfs import machine
from tendril_rt.runner.repository import without_credentials
from tendril_rt.runner.rescue import rescue_state
from tendril_rt.runner.steps import StepResult, TimeLimits
from tendril_rt.runner.summary import Summary
from tendril_rt.runner.terraform import Terraform
from tendril_rt.runner.workspace import Workspace, workspace

_SYNC_S = 5.0
_WAIT_S = 60.0  # for an attempt of before, which is being stopped, to let its workspace go

T = TypeVar("T")


class Interrupted(StepError):
    """A step did not begin, or was cut short, because the attempt is to stop."""


class Run:
    """See the module. One instance runs once.

    :param record: as far as the attempt is; changed and saved as it goes on
    :param beside: for what no step has to wait for, such as a disk
    """

    def __init__(
        self,
        record: AttemptRecord,
        held: HeldLease,
        *,
        keeper: LeaseKeeper,
        equipment: Equipment,
        spool: Spool,
        beside: TaskGroup,
    ) -> None:
        self._record = record
        self._held = held
        self._keeper = keeper
        self._kit = equipment
        self._spool = spool
        self._beside = beside
        self._summary = Summary()
        self._limits: TimeLimits = equipment.limits
        self._is_resumed = record.root_module is not None
        self._redactor: Redactor | None = None
        self._started_at = anyio.current_time() - record.age_s
        self.label = "preparation"

    @property
    def redactor(self) -> Redactor:
        """What masks secrets: the agent's own until the configuration is read, then its, too."""
        if self._redactor is None:
            self._redactor = Redactor(confidential_values(self._kit.environ))
        return self._redactor

    async def to_end(self, holding: AsyncExitStack) -> None:
        """Run what is left to be run.

        :param holding: gets the workspace, which goes when the caller closes it: not before the
            outcome is on record, or a crash in between would find neither
        :raises StepError: a step failed, or was interrupted
        :raises SnapshotError: the configuration is malformed
        """
        record, held = self._record, self._held
        if self._is_resumed:
            self._spool.system(f"the agent was restarted and goes on with {record.step}")
            if self._may_lack_output():
                self._spool.system(
                    f"nobody kept the pipes of {record.step} open meanwhile: the end of its output "
                    "may be missing"
                )
            if record.has_begun("apply"):
                held.phase, held.is_applying = Phase.APPLY, True
        snapshot = self._kit.read_snapshot(record.provision, at=record.started_at)
        self._limits = self._limits.tightened(snapshot.timeouts)
        self._redactor = Redactor(confidential_values(self._kit.environ, snapshot))
        base, provision_id = self._kit.settings.workspace_dir, held.lease.provision_id
        space = await holding.enter_async_context(
            workspace(
                base, provision_id, owner=held.lease.agent_id, keep=self._is_resumed, wait_s=_WAIT_S
            )
        )
        await limited(
            lambda: self._steps_in(space, snapshot),
            space.root,
            # What the agent itself reads into is not the template's.
            max_bytes=self._kit.settings.workspace_max_bytes + basins.SIZE_BYTES,
            excess=self._too_much,
            interrupt=held.interrupt,
        )

    async def _steps_in(self, space: Workspace, snapshot: Snapshot) -> None:
        held, operation = self._held, self._record.provision.operation
        with self._basin(space) as basin:
            terraform = await self._terraform(snapshot, space, basin)
            await self._init(terraform)
            await self._estimate(snapshot, terraform, space)
            if held.phase is Phase.PREPARE:
                held.phase = Phase.PLAN
            await self._step(terraform, "plan", lambda policy: terraform.plan(operation, policy))
            if operation is not Operation.PLAN:
                await self._apply(terraform)

    @contextmanager
    def _basin(self, space: Workspace) -> Iterator[Basin]:
        """Open what is read into: with what the agent held that was killed, if it was."""
        path = space.root / basins.FILE_NAME
        if self._is_resumed and path.exists():
            with basins.reopen(path) as basin:
                yield basin
        else:
            with basins.create(path) as basin:
                yield basin

    def _too_much(self, cause: StepError | None) -> StepError:
        detail = f"\n{cause}" if isinstance(cause, TerraformError) else ""
        return WorkspaceError(
            f"stopped during {self.label}: the workspace holds more than "
            f"{self._kit.settings.workspace_max_bytes} bytes. Make the template write less, "
            f"or raise TENDRIL_WORKSPACE_MAX_BYTES{detail}"
        )

    def _may_lack_output(self) -> bool:
        """Tell whether unread output of the step may be gone: its launcher, which keeps it, is."""
        record = self._record
        if record.run_root is None or not record.has_begun(record.step):
            return False
        launcher = RunFolder(record.run_root / record.step).launcher
        return launcher is None or not launcher.is_alive

    async def _terraform(self, snapshot: Snapshot, space: Workspace, basin: Basin) -> Terraform:
        """Fetch the template and write its inputs, or take up what is there."""
        kit, record = self._kit, self._record
        env = child_environment(kit.environ, kit.settings.pass_env)
        root_module = record.root_module
        if root_module is None:
            root_module = await self._fetch(snapshot, space, env)
        try:
            stack = StackDir.make(kit.state_dir / "tfstate", record.provision.stack_key)
        except OSError as exc:
            raise StepError(
                f"cannot make {exc.filename}: {exc.strerror or exc}. Check the free space of "
                "TENDRIL_STATE_DIR"
            ) from exc
        terraform = Terraform(
            program=kit.program,
            root_module=root_module,
            run_root=space.run_root,
            env={**env, **kit.cli.env},
            stack=stack,
            default_backend=kit.default_backend,
            output=Reader(self._spool, basin, self.redactor, tap=self._summary.see),
            request=self._held.request,
        )
        if not self._is_resumed:
            terraform.write_inputs(snapshot)
            record.root_module, record.run_root = root_module, space.run_root
        return terraform

    async def _fetch(self, snapshot: Snapshot, space: Workspace, env: Mapping[str, str]) -> Path:
        settings, source = self._kit.settings, snapshot.template
        git = Git.of(settings, self._kit.state_dir, env)
        async with self._announced(f"cloning {without_credentials(source.repo)}"):
            checkout = await self._unless_interrupted(lambda: git.checkout(source, space.templates))
        self._record.facts["commit"] = checkout.commit
        self._spool.system(f"template {source.version} is commit {checkout.commit}")
        return checkout.root_module

    async def _init(self, terraform: Terraform) -> None:
        async with AsyncExitStack() as stack:
            if self._kit.cli.shares_cache and not self._record.has_done("init"):
                turn = self._kit.init_turn
                await self._unless_interrupted(lambda: stack.enter_async_context(turn))
            await self._step(terraform, "init", terraform.init)

    async def _estimate(self, snapshot: Snapshot, terraform: Terraform, space: Workspace) -> None:
        """Estimate the cost where that is asked for; never fails the run."""
        wanted = snapshot.cost_estimate or self._kit.settings.cost_estimate
        is_late = "cost" in self._record.facts or self._record.has_begun("plan")
        if not wanted or is_late or self._record.provision.operation is Operation.DESTROY:
            return
        names = (*infracost.ENVIRONMENT, *self._kit.settings.pass_env)
        env = child_environment(self._kit.environ, names)
        try:
            async with self._announced("infracost"):
                self._record.facts["cost"] = cost = await self._unless_interrupted(
                    lambda: infracost.estimate(
                        terraform.root_module,
                        variables=terraform.variables_file,
                        answer=space.root / "infracost.json",
                        env=env,
                    )
                )
            self._spool.system(f"cost: {cost['total_monthly']} {cost['currency']} a month")
        except infracost.CostUnknown as exc:
            self._spool.system(f"no cost estimate, the run goes on: {exc}")

    async def _apply(self, terraform: Terraform) -> None:
        self.label = "terraform apply"
        is_begun = self._record.has_begun("apply")
        if not is_begun and not await self._keeper.confirm_apply(self._held):
            raise Interrupted("the apply was not begun")
        failure: TerraformError | ProcessLost | None = None
        try:
            await self._step(terraform, "apply", terraform.apply)
        except (TerraformError, ProcessLost) as exc:
            failure = exc
        if failure is not None:
            rescued = await rescue_state(terraform)
            if rescued is not None:
                self._spool.system(rescued)
                failure.add(rescued)
            raise failure
        if self._record.provision.operation is Operation.APPLY:
            try:
                outputs = await terraform.outputs()
                self._record.facts["outputs"] = redacted(outputs, self.redactor.redact_text)
            except StepError as exc:
                self._spool.system(f"the outputs are not known: {exc}")

    async def _step(
        self,
        terraform: Terraform,
        name: str,
        step: Callable[[StopPolicy], Awaitable[StepResult]],
    ) -> None:
        record = self._record
        if record.has_done(name):
            return
        async with self._announced(f"terraform {name}"):
            if self._held.interrupt.is_set() and not record.has_begun(name):
                raise Interrupted(f"terraform {name} was not begun")
            policy = self._limits.policy(name, ran_s=anyio.current_time() - self._started_at)
            if policy.timeout_s <= 0 and not record.has_begun(name):
                raise OutOfTime(
                    f"terraform {name} was not begun: the provision took longer than the "
                    f"{self._limits.provision_s:g} s that it has (TENDRIL_PROVISION_TIMEOUT_S, or "
                    "timeouts.provision_s in the configuration)"
                )
            record.step, record.phase = name, self._held.phase
            record.save(self._kit.record_dir)
            self._summary.begin()
            history = LockHistory(terraform.stack.lock_history)
            with history.during(self._lock_use(terraform, name)) as noted:
                try:
                    result = await step(policy)
                except (TerraformError, ProcessLost) as exc:
                    self._note_failure(terraform, name, exc, noted)
                    raise
                finally:
                    self._beside.start_soon(self._keep_log)
            self._note_success(result)

    async def _keep_log(self) -> None:
        """Have the disk keep the log of a step, also while everything is being cancelled."""
        with anyio.move_on_after(_SYNC_S, shield=True):
            await self._spool.sync()

    def _note_success(self, result: StepResult) -> None:
        resources = self._summary.resources
        self._record.steps.append(result)
        if resources is not None:
            self._record.facts["resources"] = dict(resources)
        self._record.save(self._kit.record_dir)

    def _note_failure(
        self,
        terraform: Terraform,
        name: str,
        exc: TerraformError | ProcessLost,
        noted: Noted,
    ) -> None:
        noted.was_killed = True
        if isinstance(exc, TerraformError):
            self._spool.system(f"terraform {name}: exit {exc.exit_code}")
            self._record.steps.append(StepResult(name, exc.exit_code, exc.duration_s))
            run_dir = RunFolder(terraform.run_root / name)
            noted.was_killed = exc.exit_code < 0 or run_dir.was_forced
        advice = locks.advise(
            self._summary.lock_block,
            noted.use,
            noted.before,
            was_killed=noted.was_killed and name in locks.OPERATIONS,
            program=Path(terraform.program).name,
            backend=configured_type(terraform.root_module),
        )
        if advice is not None:
            self._record.facts["lock"] = advice.as_metadata()
            exc.add(advice.text)

    def _lock_use(self, terraform: Terraform, name: str) -> LockUse:
        lease = self._held.lease
        return LockUse(
            provision_id=lease.provision_id,
            attempt=lease.attempt,
            operation=locks.OPERATIONS.get(name, name),
            who=locks.who(),
            machine=machine(),
            run_dir=str(terraform.run_root / name),
            began_at=time.time(),
        )

    @asynccontextmanager
    async def _announced(self, label: str) -> AsyncIterator[None]:
        self.label = label
        self._spool.system(f"{label} …")
        started_at = time.monotonic()
        yield
        self._spool.system(f"{label}: done in {time.monotonic() - started_at:.1f} s")

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
            raise Interrupted("interrupted")
        return results[0]
