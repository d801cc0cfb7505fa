"""Terraform or OpenTofu: its arguments, files and exit codes.

One instance per attempt. Variables and backend settings are written to files of mode 0600 in the
workspace; state lives in the template's own backend, or, for a template without one, in the agent's
state directory under the stack's key: never in the workspace, which is removed.
"""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio

from tendril_rt.errors import StepError, TerraformError
from tendril_rt.model import Operation, Snapshot
from tendril_rt.runner import process
from tendril_rt.runner.process import Output
from tendril_rt.runner.steps import STOP_POLICIES, StepResult

_BACKEND = re.compile(r"\b(?:backend|cloud)\b")
_PLAN_FILE = "tendril.tfplan"
_VARIABLES_FILE = "terraform.tfvars.json"
_TAIL_LINES = 12
_MAX_TEMPLATE_CHARACTERS = 1024 * 1024  # of one file; Terraform itself reads the rest
_VERSION_TIMEOUT_S = 30.0


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

    :ivar state_dir: where state goes for templates without a backend
    :ivar stack_key: names the state
    :ivar interrupt: set to stop the running command by its policy
    """

    program: str
    root_module: Path
    env: Mapping[str, str]
    state_dir: Path
    stack_key: str
    output: Output
    interrupt: anyio.Event

    def write_inputs(self, snapshot: Snapshot) -> None:
        """Write variables, backend settings and, where the template has none, a backend.

        :raises StepError: a file cannot be written
        """
        try:
            _write(self.root_module / _VARIABLES_FILE, snapshot.terraform_vars_json)
            if snapshot.backend_config:
                lines = (f"{k} = {_hcl_string(v)}\n" for k, v in snapshot.backend_config.items())
                _write(self._backend_file, "".join(lines))
            shutil.rmtree(self.root_module / ".terraform", ignore_errors=True)
            spare = self._may_have_backend()
            _write(
                self._spare_backend if spare else self._own_backend,
                self._local_backend(),
            )
        except OSError as exc:
            raise StepError(
                f"cannot write {exc.filename or 'the inputs of Terraform'}: {exc.strerror or exc}. "
                "Check the free space of TENDRIL_WORKSPACE_DIR and TENDRIL_STATE_DIR"
            ) from exc

    async def init(self) -> StepResult:
        """Initialise; with the agent's own backend where Terraform finds none in the template.

        :raises TerraformError: with the end of what Terraform said
        """
        backend = self._backend_file
        more = [f"-backend-config={backend}"] if backend.exists() else []
        arguments = ["-input=false", "-no-color", *more]
        result = await self._run("init", "init", arguments)
        found = self.root_module / ".terraform" / "terraform.tfstate"  # names the backend
        if self._spare_backend.exists() and not found.exists():
            self._spare_backend.rename(self._own_backend)
            result = await self._run("init", "init", arguments)
        return result

    async def plan(self, operation: Operation) -> StepResult:
        """Make and save the plan that :meth:`apply` applies.

        :raises TerraformError: with the end of what Terraform said
        """
        more = ["-destroy"] if operation is Operation.DESTROY else []
        # Named again on the command line, since a template's own *.auto.tfvars would win otherwise.
        variables = f"-var-file={_VARIABLES_FILE}"
        arguments = ["-input=false", "-no-color", f"-out={_PLAN_FILE}", variables, *more]
        return await self._run("plan", "plan", arguments)

    async def apply(self) -> StepResult:
        """Apply the saved plan.

        :raises TerraformError: with the end of what Terraform said, and where the state is if
            Terraform could not store it
        """
        try:
            return await self._run("apply", "apply", ["-input=false", "-no-color", _PLAN_FILE])
        except TerraformError as exc:
            rescued = self._rescue_state()
            if rescued is None:
                raise
            raise TerraformError(exc.step, exc.exit_code, f"{exc}\n{rescued}") from exc

    async def _run(self, step: str, command: str, arguments: Sequence[str]) -> StepResult:
        env = {
            **self.env,
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "CHECKPOINT_DISABLE": "1",
        }
        done = await process.run(
            [self.program, command, *arguments],
            cwd=self.root_module,
            env=env,
            output=self.output,
            policy=STOP_POLICIES[step],
            interrupt=self.interrupt,
        )
        if done.exit_code != 0:
            raise TerraformError(step, done.exit_code, _explain(step, done))
        return StepResult(step, done.exit_code, done.duration_s)

    @property
    def _backend_file(self) -> Path:
        return self.root_module / "tendril.backend.tfvars"

    @property
    def _own_backend(self) -> Path:
        return self.root_module / "tendril_override.tf.json"

    @property
    def _spare_backend(self) -> Path:
        """Not read by Terraform; becomes the override when init finds no backend."""
        return self.root_module / "tendril.spare-backend.json"

    def _may_have_backend(self) -> bool:
        """False is certain; True may be a comment, a string or a block of that name."""
        patterns = ("*.tf", "*.tf.json", "*.tofu", "*.tofu.json")
        files = (file for pattern in patterns for file in self.root_module.glob(pattern))
        return any(_BACKEND.search(_beginning_of(file)) for file in files if file.is_file())

    def _local_backend(self) -> str:
        folder = self._stack_dir()
        _write(folder / "stack_key", self.stack_key)
        path = str(folder / "terraform.tfstate")
        return json.dumps({"terraform": {"backend": {"local": {"path": path}}}})

    def _stack_dir(self) -> Path:
        folder = self.state_dir / hashlib.sha256(self.stack_key.encode()).hexdigest()[:32]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _rescue_state(self) -> str | None:
        """Take what Terraform could not store out of the workspace, which will be removed."""
        errored = self.root_module / "errored.tfstate"
        if not errored.exists():
            return None
        try:
            kept = self._stack_dir() / f"errored-{int(time.time())}.tfstate"
            kept.touch(mode=0o600)
            shutil.copyfile(errored, kept)
        except OSError as exc:
            return f"THE STATE IS LOST: it could not be stored, nor kept by the agent ({exc})"
        return (
            f"Terraform could not store the state. It is kept in {kept} on the agent's host: put "
            "it back with 'terraform state push' before the next run"
        )


def _beginning_of(file: Path) -> str:
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(_MAX_TEMPLATE_CHARACTERS)


def _write(path: Path, text: str) -> None:
    """Write with mode 0600; never follow a link that the template put there."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _hcl_string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")


def _explain(step: str, done: process.Finished) -> str:
    text = done.stderr_tail.decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    first = next((line for line in lines if "Error:" in line), None)
    last = lines[-_TAIL_LINES:]
    # A provisioner that talks much would push out Terraform's own line.
    said = "\n".join(last if first is None or first in last else [first, "…", *last])
    how = f"exit code {done.exit_code}" if done.exit_code >= 0 else f"signal {-done.exit_code}"
    return f"terraform {step} failed ({how}) after {done.duration_s:.1f} s" + (
        f":\n{said}" if said else ""
    )
