"""Terraform or OpenTofu: its arguments, files and exit codes.

One instance per attempt. Variables and backend settings are written to files of mode 0600 in the
workspace; state lives in the template's own backend, or, for a template without one, in the
agent's default backend or its state directory: never in the workspace, which is removed. Each
step's process has a folder of its own below ``run_root``; one that an agent before this one has
launched there is taken up instead of being run again.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.errors import StepError, StepTimeout, TerraformError
from tendril_rt.model import Operation, Snapshot
from tendril_rt.runner import outputs, private, process
from tendril_rt.runner.attended import Finished, Output, StopPolicy, StopRequest, adopt
from tendril_rt.runner.backend import STACK_MARK, StackDir, configured_type
from tendril_rt.runner.steps import StepResult

#: A block's brace stands on the line of its name, unless a comment that spans lines is in between.
_BACKEND = re.compile(r"\b(?:backend|cloud)\b[^\n]*(?:\{|/\*)")
_BACKEND_JSON = re.compile(r"\b(?:backend|cloud)\b")
_PLAN_FILE = "tendril.tfplan"
_VARIABLES_FILE = "terraform.tfvars.json"
_TAIL_LINES = 12
_MAX_TEMPLATE_CHARACTERS = 1024 * 1024  # of one file; Terraform itself reads the rest
_SECOND_INIT = "init-again"
_LOCK_FILE = ".terraform.lock.hcl"
_VERSION_TIMEOUT_S = 30.0
_QUESTION_TIMEOUT_S = 120.0  # of a remote backend, too


def find(setting: str, path: str | None) -> str:
    """Return the program to run for the setting ``TENDRIL_TERRAFORM``.

    :param path: the PATH to look in
    :raises StepError: it is not there
    """
    names = ("terraform", "tofu") if setting == "auto" else (setting,)
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise StepError(
        f"{' or '.join(names)} is not on the agent's PATH: install Terraform or OpenTofu, or name "
        "the program in TENDRIL_TERRAFORM"
    )


async def version_of(program: str, *, cwd: Path, env: Mapping[str, str]) -> str:
    """Return for example ``Terraform v1.11.4``.

    :raises StepError: the program does not answer
    """
    code, stdout, stderr = await process.capture(
        [program, "version"],
        cwd=cwd,
        env={**env, "CHECKPOINT_DISABLE": "1"},
        timeout_s=_VERSION_TIMEOUT_S,
    )
    if code != 0 or not stdout:
        raise StepError(f"{program} version ended with {code}: {stderr.strip()[-300:]}")
    return stdout.splitlines()[0].strip()


@dataclass(frozen=True, slots=True)
class Terraform:
    """One root module and how to run Terraform in it.

    :ivar run_root: where each step's process has its folder
    :ivar stack: what the agent keeps of this stack
    :ivar default_backend: for templates without a backend; None keeps their state with the stack
    :ivar request: stops the running command by its policy
    """

    program: str
    root_module: Path
    run_root: Path
    env: Mapping[str, str]
    stack: StackDir
    default_backend: str | None
    output: Output
    request: StopRequest

    @property
    def variables_file(self) -> Path:
        return self.root_module / _VARIABLES_FILE

    @property
    def errored_state(self) -> Path:
        """Where Terraform leaves a state that its backend did not take."""
        return self.root_module / "errored.tfstate"

    def write_inputs(self, snapshot: Snapshot) -> None:
        """Write variables, backend settings and, where the template has none, a backend.

        :raises StepError: a file cannot be written
        """
        try:
            private.write(self.variables_file, snapshot.terraform_vars_json)
            if snapshot.backend_config:
                lines = (f"{k} = {_hcl_string(v)}\n" for k, v in snapshot.backend_config.items())
                private.write(self._backend_file, "".join(lines))
            shutil.rmtree(self.root_module / ".terraform", ignore_errors=True)
            spare = self._may_have_backend()
            private.write(self._spare_backend if spare else self._own_backend, self._backend())
        except OSError as exc:
            raise StepError(
                f"cannot write {exc.filename or 'the inputs of Terraform'}: {exc.strerror or exc}. "
                "Check the free space of TENDRIL_WORKSPACE_DIR and TENDRIL_STATE_DIR"
            ) from exc

    async def init(self, policy: StopPolicy) -> StepResult:
        """Initialise; with the agent's own backend where Terraform finds none in the template.

        :raises TerraformError: with the end of what Terraform said
        :raises ProcessLost: nobody can say how it ended
        """
        backend = self._backend_file
        more = [f"-backend-config={backend}"] if backend.exists() else []
        arguments = ["-input=false", "-no-color", *more]
        result = await self._run("init", "init", arguments, policy)
        has_none = configured_type(self.root_module) is None
        if has_none and self._spare_backend.exists():
            self._spare_backend.rename(self._own_backend)
        was_begun = (self.run_root / _SECOND_INIT).exists()
        if was_begun or (has_none and self._own_backend.exists()):
            result = await self._run("init", _SECOND_INIT, arguments, policy)
        return result

    async def plan(self, operation: Operation, policy: StopPolicy) -> StepResult:
        """Make and save the plan that :meth:`apply` applies.

        :raises TerraformError: with the end of what Terraform said
        :raises ProcessLost: nobody can say how it ended
        """
        more = ["-destroy"] if operation is Operation.DESTROY else []
        # Named again on the command line, since a template's own *.auto.tfvars would win otherwise.
        variables = f"-var-file={_VARIABLES_FILE}"
        arguments = ["-input=false", "-no-color", f"-out={_PLAN_FILE}", variables, *more]
        return await self._run("plan", "plan", arguments, policy)

    async def apply(self, policy: StopPolicy) -> StepResult:
        """Apply the saved plan.

        :raises TerraformError: with the end of what Terraform said
        :raises ProcessLost: nobody can say how it ended
        """
        return await self._run("apply", "apply", ["-input=false", "-no-color", _PLAN_FILE], policy)

    async def outputs(self) -> Mapping[str, object]:
        """Return the outputs that are not marked sensitive, within bounds.

        :raises StepError: Terraform does not say them
        """
        code, stdout, stderr = await self._ask("output", "-json", "-no-color")
        if code != 0:
            raise StepError(f"output -json ended with {code}: {stderr.strip()[-300:]}")
        try:
            return outputs.parse(stdout)
        except ValueError as exc:
            raise StepError(f"output -json cannot be read: {exc}") from exc

    async def push_state(self) -> None:
        """Store ``errored.tfstate`` in the backend; never by force.

        :raises StepError: the backend does not take it
        """
        code, _, stderr = await self._ask("state", "push", self.errored_state.name)
        if code != 0:
            raise StepError(f"state push ended with {code}: {' '.join(stderr.split())[-300:]}")

    async def _run(
        self, step: str, folder: str, arguments: Sequence[str], policy: StopPolicy
    ) -> StepResult:
        run_dir = self.run_root / folder
        if run_dir.exists():
            done = await adopt(run_dir, self.output, policy, self.request)
        else:
            done = await process.run(
                [self.program, step, *arguments],
                cwd=self.root_module,
                env=self._env,
                run_dir=run_dir,
                output=self.output,
                policy=policy,
                request=self.request,
            )
        if done.exit_code != 0:
            raise _failure(step, done, policy)
        return StepResult(step, done.exit_code, done.duration_s)

    async def _ask(self, *arguments: str) -> tuple[int, str, str]:
        return await process.capture(
            [self.program, *arguments],
            cwd=self.root_module,
            env=self._env,
            timeout_s=_QUESTION_TIMEOUT_S,
        )

    @property
    def _env(self) -> Mapping[str, str]:
        env = {**self.env, "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
        if not (self.root_module / _LOCK_FILE).exists():
            # Else a plugin cache would serve only what a lock file names, and all others be fetched
            # anew. Where the template has a lock file, that holds: what is in the cache may bear
            # none of its checksums, and is then fetched from where they come from.
            env["TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE"] = "1"
        return env

    @property
    def _backend_file(self) -> Path:
        return self.root_module / "tendril.backend.tfvars"

    @property
    def _own_backend(self) -> Path:
        return self.root_module / (
            "tendril_override.tf.json" if self.default_backend is None else "tendril_override.tf"
        )

    @property
    def _spare_backend(self) -> Path:
        """Not read by Terraform; becomes the override when init finds no backend."""
        return self.root_module / "tendril.spare-backend"

    def _may_have_backend(self) -> bool:
        """False is certain; True may be a comment, a string or a block of that name."""
        patterns = ("*.tf", "*.tf.json", "*.tofu", "*.tofu.json")
        files = (file for pattern in patterns for file in self.root_module.glob(pattern))
        return any(_names_backend(file) for file in files if file.is_file())

    def _backend(self) -> str:
        if self.default_backend is None:
            return self.stack.local_backend()
        return self.default_backend.replace(STACK_MARK, self.stack.name)


def _names_backend(file: Path) -> bool:
    pattern = _BACKEND_JSON if file.suffix == ".json" else _BACKEND
    with file.open(encoding="utf-8", errors="replace") as opened:
        return pattern.search(opened.read(_MAX_TEMPLATE_CHARACTERS)) is not None


def _hcl_string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def _failure(step: str, done: Finished, policy: StopPolicy) -> TerraformError:
    tail = done.stderr_tail.decode(errors="replace")
    lines = [line for line in tail.splitlines() if line.strip()]
    first = next((line for line in lines if "Error:" in line), None)
    last = lines[-_TAIL_LINES:]
    # A provisioner that talks much would push out Terraform's own line.
    said = "\n".join(last if first is None or first in last else [first, "…", *last])
    how = f"exit code {done.exit_code}" if done.exit_code >= 0 else f"signal {-done.exit_code}"
    message = f"terraform {step} failed ({how}) after {done.duration_s:.1f} s"
    if done.timed_out:
        message = (
            f"terraform {step} was interrupted because it took longer than the "
            f"{policy.timeout_s:g} s that it had ({how}); raise the agent's limit "
            f"(TENDRIL_{step.upper()}_TIMEOUT_S, TENDRIL_PROVISION_TIMEOUT_S) or the "
            "configuration's own (timeouts)"
        )
    kind = StepTimeout if done.timed_out else TerraformError
    text = f"{message}:\n{said}" if said else message
    return kind(step, done.exit_code, text, duration_s=done.duration_s)
