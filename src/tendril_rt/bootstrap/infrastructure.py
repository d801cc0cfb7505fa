"""``templates/bootstrap`` applied from this machine, by the runner that agents use.

The state is in the bootstrap's folder, or in the S3 backend that was asked for. Terraform outlives
a grape that is killed; the next one waits for an apply that still runs, then plans anew, so that
what counts is always what is there.
"""

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tendril_rt import resources
from tendril_rt.bootstrap import faults
from tendril_rt.bootstrap.cloud import Aws
from tendril_rt.bootstrap.plan import Confirm, Narrator, Request
from tendril_rt.bootstrap.transcript import Transcript
from tendril_rt.errors import ProcessLost, TendrilError, TerraformError
from tendril_rt.model import Operation, ProvisionId, Snapshot, TemplateSource
from tendril_rt.runner import launched, terraform
from tendril_rt.runner.attended import StopPolicy, StopRequest, adopt
from tendril_rt.runner.backend import StackDir
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.rescue import rescue_state
from tendril_rt.runner.steps import STOP_POLICIES
from tendril_rt.runner.terraform import Terraform
from tendril_rt.runner.workspace import Workspace, workspace


class Infrastructure:
    """See the module; one instance for one request."""

    def __init__(self, request: Request, aws: Aws, narrator: Narrator, confirm: Confirm) -> None:
        self._request = request
        self._aws = aws
        self._narrator = narrator
        self._confirm = confirm
        self._transcript = Transcript(request.folder / "terraform.log", narrator)
        # The same for every run: a path of its own would be noted in saved plans.
        self._run_id = ProvisionId(str(uuid.uuid5(uuid.NAMESPACE_URL, f"grape:{request.name}")))

    @property
    def variables(self) -> dict[str, object]:
        """What the template gets."""
        request = self._request
        return {
            **request.variables,
            "project_name": request.project,
            "environment": request.environment,
            "region": request.region,
            "agent_namespace": request.namespace,
            "agent_service_account": request.service_account,
        }

    async def make(self) -> tuple[Mapping[str, object], bool]:
        """Make what is missing; return the template's outputs, and whether anything changed.

        Cancellation: Terraform is stopped by the policy of its step, an apply by one SIGINT.

        :raises StepError: Terraform failed, with the cure where AWS's error code tells it
        :raises TendrilError: nobody agreed to the plan
        """
        return await self._run(Operation.APPLY)

    async def destroy(self) -> None:
        """Destroy what the state knows. Cancellation and errors: as for :meth:`make`."""
        await self._run(Operation.DESTROY)

    async def _run(self, operation: Operation) -> tuple[Mapping[str, object], bool]:
        await self._take_up()
        async with workspace(self._base, self._run_id) as space:
            shutil.copytree(
                resources.templates(),
                space.templates,
                ignore=shutil.ignore_patterns(".terraform*", "tests"),
            )
            module = await self._terraform(space)
            module.write_inputs(_snapshot(self.variables))
            try:
                await self._step(module, "init", operation)
                await self._step(module, "plan", operation)
                counts = self._transcript.summary.resources or {}
                changes = any(counts.values())
                if changes:
                    await self._agreed(operation, counts)
                # Without changes, too: outputs that a killed apply did not store are stored now.
                # A role's credentials last an hour: fresh ones for the long step.
                module = replace(module, env=await self._environment())
                await self._step(module, "apply", operation)
            except TerraformError as exc:
                faults.explain(exc)
                exc.add(f"All that Terraform said: {self._transcript.path}")
                raise
            if operation is Operation.DESTROY:
                return {}, changes
            return await module.outputs(), changes

    async def _take_up(self) -> None:
        """Wait for an apply that a killed grape left running, and keep a state it could not store.

        What else still ran is stopped when the workspace is made anew.
        """
        run_dir = self._base / self._run_id / "run" / "apply"
        if not run_dir.exists():
            return
        if isinstance(launched.find(run_dir), launched.Running):
            self._narrator.note("the apply of an interrupted bootstrap still runs: waiting for it")
        async with workspace(self._base, self._run_id, keep=True) as space:
            self._transcript.begin("terraform apply (taken up)")
            module = await self._terraform(space)
            try:
                await adopt(run_dir, self._transcript, STOP_POLICIES["apply"], module.request)
            except ProcessLost as exc:
                self._narrator.note(str(exc))
            await self._rescued(module)

    async def _agreed(self, operation: Operation, counts: Mapping[str, int]) -> None:
        said = ", ".join(f"{number} to {name}" for name, number in counts.items() if number)
        question = f"{operation.value} in account and region of {self._request.name}: {said}"
        if not await self._confirm(question):
            raise TendrilError(f"nobody agreed, nothing was changed ({said})")

    async def _step(self, module: Terraform, name: str, operation: Operation) -> None:
        policy = STOP_POLICIES[name]
        self._transcript.begin(f"terraform {name}")
        if name == "init":
            await module.init(policy)
        elif name == "plan":
            await module.plan(operation, policy)
        else:
            await self._applied(module, policy)

    async def _applied(self, module: Terraform, policy: StopPolicy) -> None:
        failure: TerraformError | ProcessLost | None = None
        try:
            await module.apply(policy)
        except (TerraformError, ProcessLost) as exc:
            failure = exc
        if failure is not None:
            rescued = await self._rescued(module)
            if rescued is not None:
                failure.add(rescued)
            raise failure

    async def _rescued(self, module: Terraform) -> str | None:
        rescued = await rescue_state(module)
        if rescued is not None:
            self._narrator.note(rescued)
        return rescued

    async def _terraform(self, space: Workspace) -> Terraform:
        request = self._request
        stack = StackDir.make(request.folder / "tfstate", request.name)
        return Terraform(
            program=terraform.find("auto", request.environ.get("PATH")),
            root_module=space.templates / "bootstrap",
            run_root=space.run_root,
            env=await self._environment(),
            stack=stack,
            default_backend=_backend(request.backend) if request.backend else None,
            output=self._transcript,
            request=StopRequest(),
        )

    async def _environment(self) -> Mapping[str, str]:
        return await self._aws.environment(child_environment(self._request.environ))

    @property
    def _base(self) -> Path:
        return self._request.folder / "work"


def _snapshot(variables: Mapping[str, object]) -> Snapshot:
    source = TemplateSource(repo="templates", version="shipped", path="bootstrap")
    return Snapshot(source, json.dumps(variables), {}, frozenset())


def _backend(settings: Mapping[str, str]) -> str:
    lines = "\n".join(f"    {name} = {json.dumps(value)}" for name, value in settings.items())
    return f'terraform {{\n  backend "s3" {{\n{lines}\n  }}\n}}\n'
