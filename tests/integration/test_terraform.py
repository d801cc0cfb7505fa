"""Real Terraform on small local templates: steps, failures, inputs, state, and its environment."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import StepError, TerraformError
from tendril_rt.model import Operation, Snapshot
from tendril_rt.runner import terraform
from tendril_rt.runner.attended import StopRequest
from tendril_rt.runner.backend import StackDir
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.steps import STOP_POLICIES, StepResult
from tendril_rt.runner.terraform import Terraform

from .runner_support import Recorded, is_running, recording, until

pytestmark = pytest.mark.integration

_PROGRAM = terraform.find("auto", os.environ["PATH"])
_INIT, _PLAN, _APPLY = (STOP_POLICIES[step] for step in ("init", "plan", "apply"))
_STACK = "stacks/main"
_TEMPLATE = """
variable "name" { default = "nobody" }
resource "terraform_data" "one" { input = var.name }
output "said" { value = "said ${terraform_data.one.output}" }
"""


@dataclass(frozen=True)
class Bench:
    """Makes workspaces for one agent: one state directory, one log."""

    folder: Path
    output: Recorded

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    def environ(self) -> dict[str, str]:
        """Return an agent's environment, secrets and all."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "AWS_REGION": "eu-central-1",
            "TENDRIL_API_TOKEN": "tdl_secret",
            "TENDRIL_CLUSTER_ID": "a cluster",
            "SUPABASE_KEY": "eyJ.secret",
            "SUPABASE_URL": "https://project.invalid",
            "SOMETHING_ELSE": "secret",
        }

    def terraform(self, name: str, template: str = _TEMPLATE, stack: str = _STACK) -> Terraform:
        """Return Terraform in the new workspace *name*, which holds *template*."""
        root = self.folder / name
        root.mkdir()
        (root / "main.tf").write_text(template)
        return Terraform(
            program=_PROGRAM,
            root_module=root,
            run_root=self.folder / f"{name}-run",
            env=child_environment(self.environ(), ["TENDRIL_API_TOKEN"]),
            stack=StackDir.make(self.state_dir, stack),
            default_backend=None,
            output=self.output.reader,
            request=StopRequest(),
        )

    def states(self) -> list[Path]:
        return sorted(self.state_dir.glob("*/terraform.tfstate"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with recording(tmp_path / "spool") as output:
        yield Bench(tmp_path, output)


def _snapshot(variables: str = "{}", backend: str = "null") -> Snapshot:
    source = '{"repo": "https://example.com/x", "version": "main"}'
    return parse_snapshot(
        f'{{"template_source": {source}, "terraform_vars": {variables}, '
        f'"backend_config": {backend}}}'
    )


async def _run(
    terraform: Terraform,
    snapshot: Snapshot | None = None,
    *,
    operation: Operation = Operation.APPLY,
) -> list[StepResult]:
    """Do what an attempt does after the template is there."""
    terraform.write_inputs(snapshot or _snapshot())
    results = [await terraform.init(_INIT), await terraform.plan(operation, _PLAN)]
    if operation is not Operation.PLAN:
        results.append(await terraform.apply(_APPLY))
    return results


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_run_goes_through_its_steps_and_says_so_in_the_log(bench: Bench) -> None:
    results = await _run(bench.terraform("one"), _snapshot('{"name": "hello"}'))

    assert [(r.name, r.exit_code) for r in results] == [("init", 0), ("plan", 0), ("apply", 0)]
    assert all(result.duration_s > 0 for result in results)
    assert "Terraform has been successfully initialized!" in bench.output.stdout
    assert "Plan: 1 to add, 0 to change, 0 to destroy." in bench.output.stdout
    assert "Apply complete! Resources: 1 added, 0 changed, 0 destroyed." in bench.output.stdout
    assert 'said = "said hello"' in bench.output.stdout
    assert "\x1b[" not in bench.output.stdout


async def test_state_outlives_the_workspace_and_the_next_apply_finds_it(bench: Bench) -> None:
    await _run(bench.terraform("first"))
    await _run(bench.terraform("second"))

    assert "Apply complete! Resources: 1 added, 0 changed" in bench.output.stdout
    assert "Apply complete! Resources: 0 added, 0 changed, 0 destroyed." in bench.output.stdout
    assert len(bench.states()) == 1
    assert not list(bench.folder.glob("*/terraform.tfstate"))
    assert (bench.states()[0].parent / "stack_key").read_text() == _STACK
    assert _mode(bench.states()[0].parent) == 0o700


async def test_each_stack_has_a_state_of_its_own(bench: Bench) -> None:
    await _run(bench.terraform("first", stack="../../stack 1"))
    await _run(bench.terraform("second", stack="../../stack 2"))

    assert bench.output.stdout.count("Resources: 1 added, 0 changed") == 2
    assert len(bench.states()) == 2


async def test_a_destroy_destroys_what_the_state_holds(bench: Bench) -> None:
    await _run(bench.terraform("first"))
    await _run(bench.terraform("second"), operation=Operation.DESTROY)

    assert "Plan: 0 to add, 0 to change, 1 to destroy." in bench.output.stdout
    assert "Apply complete! Resources: 0 added, 0 changed, 1 destroyed." in bench.output.stdout
    assert json.loads(bench.states()[0].read_text())["resources"] == []


async def test_a_plan_changes_nothing(bench: Bench) -> None:
    results = await _run(bench.terraform("one"), operation=Operation.PLAN)

    assert [result.name for result in results] == ["init", "plan"]
    assert "Plan: 1 to add" in bench.output.stdout
    assert bench.states() == []


async def test_what_was_planned_is_what_is_applied(bench: Bench) -> None:
    terraform = bench.terraform("one")
    terraform.write_inputs(_snapshot('{"name": "planned"}'))
    await terraform.init(_INIT)
    await terraform.plan(Operation.APPLY, _PLAN)
    terraform.write_inputs(_snapshot('{"name": "changed since"}'))
    await terraform.apply(_APPLY)

    assert 'said = "said planned"' in bench.output.stdout
    assert "changed since" not in bench.output.stdout


async def test_a_failed_init_says_why(bench: Bench) -> None:
    terraform = bench.terraform("one", 'module "x" { source = "./missing" }')
    terraform.write_inputs(_snapshot())

    with pytest.raises(TerraformError) as caught:
        await terraform.init(_INIT)

    assert (caught.value.step, caught.value.exit_code) == ("init", 1)
    assert "terraform init failed (exit code 1) after" in str(caught.value)
    assert "Unreadable module directory" in str(caught.value)


async def test_a_failed_plan_says_why(bench: Bench) -> None:
    template = 'variable "zone" {\n  validation {\n    condition = var.zone == "eu"\n'
    template += '    error_message = "The zone must be eu."\n  }\n}\n'

    with pytest.raises(TerraformError) as caught:
        await _run(bench.terraform("one", template), _snapshot('{"zone": "us"}'))

    assert (caught.value.step, caught.value.exit_code) == ("plan", 1)
    assert "terraform plan failed (exit code 1) after" in str(caught.value)
    assert "The zone must be eu." in str(caught.value)
    assert "Initializing" not in str(caught.value), "of stderr, and of this step alone"


async def test_a_missing_variable_fails_the_plan_instead_of_asking(bench: Bench) -> None:
    with pytest.raises(TerraformError, match="No value for required variable") as caught:
        await _run(bench.terraform("one", 'variable "zone" {}'))

    assert caught.value.step == "plan"


async def test_a_failed_apply_says_why_and_keeps_its_state(bench: Bench) -> None:
    template = (
        _TEMPLATE
        + """
    resource "terraform_data" "bad" {
      depends_on = [terraform_data.one]
      provisioner "local-exec" { command = "seq -f 'line %g' 8; echo the reason >&2; exit 3" }
    }
    """
    )

    with pytest.raises(TerraformError) as caught:
        await _run(bench.terraform("one", template))

    assert (caught.value.step, caught.value.exit_code) == ("apply", 1)
    assert "terraform apply failed (exit code 1) after" in str(caught.value)
    assert "exit status 3" in " ".join(str(caught.value).split())
    assert "line 8\nthe reason" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 15
    assert "Error: local-exec provisioner error" in str(caught.value)
    assert "terraform_data" in bench.states()[0].read_text()


async def test_an_interrupted_apply_keeps_its_state_and_leaves_nothing_running(
    bench: Bench,
) -> None:
    template = (
        _TEMPLATE
        + """
    resource "terraform_data" "slow" {
      depends_on = [terraform_data.one]
      provisioner "local-exec" { command = "echo $$ > pid.tmp; mv pid.tmp pid; exec sleep 60" }
    }
    """
    )
    terraform = bench.terraform("one", template)
    failures: list[TerraformError] = []
    pid = terraform.root_module / "pid"

    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            with pytest.raises(TerraformError) as caught:
                await _run(terraform)
            failures.append(caught.value)

        tasks.start_soon(run)
        await until(pid.exists)
        sleeper = int(pid.read_text())
        assert is_running(sleeper)
        terraform.request.interrupt.set()

    assert (failures[0].step, failures[0].exit_code) == ("apply", 1)
    assert "Interrupt received" in bench.output.stdout
    state = json.loads(bench.states()[0].read_text())
    assert "one" in [resource["name"] for resource in state["resources"]]
    await until(lambda: not is_running(sleeper))


async def test_variables_arrive_exactly(bench: Bench) -> None:
    template = """
    variable "numbers" { type = list(number) }
    variable "text" { type = string }
    variable "nothing" { default = "default" }
    output "numbers" { value = [for n in var.numbers : "<${tostring(n)}>"] }
    output "text" { value = base64encode(var.text) }
    output "nothing" { value = var.nothing == null }
    """
    numbers = ["9007199254740993", "12345678901234567890123", "-9223372036854775809", "0.1", "1.25"]
    variables = (
        f'{{"numbers": [{", ".join(numbers)}], "text": "${{x}} %{{y}} \\"ü\\n", "nothing": null}}'
    )

    await _run(bench.terraform("one", template), _snapshot(variables))

    for number in numbers:
        assert f'"<{number}>"' in bench.output.stdout
    assert 'text = "JHt4fSAle3l9ICLDvAo="' in bench.output.stdout
    assert "nothing = true" in bench.output.stdout


async def test_no_variables_are_an_empty_object(bench: Bench) -> None:
    terraform = bench.terraform("one")

    await _run(terraform, _snapshot("null"))

    assert (terraform.root_module / "terraform.tfvars.json").read_text() == "{}"
    assert 'said = "said nobody"' in bench.output.stdout


_PARTIAL = 'terraform {\n  backend "local" {}\n}\n'
_BARE = "terraform {\n  backend local {}\n}\n"
_TIGHT = 'terraform {\n  /* ours */ backend"local"{}\n}\n'
_PARTIAL_JSON = '{"terraform": {"backend": {"local": {}}}}'


@pytest.mark.parametrize(
    ("file", "partial"),
    [("b.tf", _PARTIAL), ("b.tf", _BARE), ("b.tf", _TIGHT), ("b.tf.json", _PARTIAL_JSON)],
    ids=["usual", "bare-label", "tight", "json"],
)
async def test_a_template_with_a_backend_gets_its_settings_and_no_other_backend(
    bench: Bench, file: str, partial: str
) -> None:
    terraform = bench.terraform("one")
    (terraform.root_module / file).write_text(partial)
    path = bench.folder / 'own "${state} %{x}.tfstate'

    await _run(terraform, _snapshot(backend=json.dumps({"path": str(path)})))

    assert "terraform_data" in path.read_text()
    assert bench.states() == []
    assert not (terraform.root_module / "tendril_override.tf.json").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.tf", '# backend "s3" {}\n// backend "s3" {}\n'),
        ("x.tf", '/*\nterraform {\n  backend "s3" {}\n}\n*/\n'),
        ("x.tf", 'locals {\n  readme = <<-EOT\n    backend "s3" {}\n  EOT\n}\n'),
        ("x.tf", "locals {\n  x = {\n    cloud = {}\n  }\n}\n"),
        ("x.tf.json", '{"variable": {"backend": {"default": "the name of a service"}}}'),
    ],
    ids=["line-comments", "block-comment", "heredoc", "attribute", "a-variable-of-that-name"],
)
async def test_what_only_looks_like_a_backend_does_not_cost_the_state(
    bench: Bench, file: str, text: str
) -> None:
    terraform = bench.terraform("one")
    (terraform.root_module / file).write_text(text)

    await _run(terraform)

    assert not (terraform.root_module / "terraform.tfstate").exists()
    assert len(bench.states()) == 1


async def test_files_that_may_hold_secrets_are_the_agents_alone(bench: Bench) -> None:
    terraform = bench.terraform("one")
    umask = os.umask(0)
    try:
        terraform.write_inputs(_snapshot('{"name": "x"}', '{"path": "x"}'))
    finally:
        os.umask(umask)

    written = [path for path in terraform.root_module.iterdir() if path.name != "main.tf"]
    assert len(written) == 3
    assert {_mode(path) for path in written} == {0o600}
    assert _written_state_folder(bench) == (0o700, 0o600)


def _written_state_folder(bench: Bench) -> tuple[int, int]:
    (key,) = bench.state_dir.glob("*/stack_key")
    return _mode(key.parent), _mode(key)


_INPUTS = ("terraform.tfvars.json", "tendril.backend.tfvars", "tendril_override.tf.json")


@pytest.mark.parametrize("name", _INPUTS)
async def test_a_link_that_the_template_put_there_is_not_followed(bench: Bench, name: str) -> None:
    precious = bench.folder / "precious"
    precious.write_text("kept")
    terraform = bench.terraform("one")
    (terraform.root_module / name).symlink_to(precious)

    terraform.write_inputs(_snapshot('{"name": "x"}', '{"path": "x"}'))

    assert precious.read_text() == "kept"
    assert not (terraform.root_module / name).is_symlink()


async def test_an_input_that_cannot_be_written_is_an_error_of_the_step(bench: Bench) -> None:
    terraform = bench.terraform("one")
    (terraform.root_module / "terraform.tfvars.json").mkdir()

    with pytest.raises(
        StepError, match=r"cannot write .*terraform.tfvars.json.*TENDRIL_WORKSPACE_DIR"
    ):
        terraform.write_inputs(_snapshot())


async def test_a_template_sees_the_cloud_identity_and_nothing_of_the_agent(bench: Bench) -> None:
    template = """
    resource "terraform_data" "env" {
      provisioner "local-exec" { command = "env > seen" }
    }
    """
    terraform = bench.terraform("one", template)

    await _run(terraform)

    seen = dict(
        line.split("=", 1)
        for line in (terraform.root_module / "seen").read_text().splitlines()
        if "=" in line
    )
    assert seen["AWS_REGION"] == "eu-central-1"
    assert seen["TF_IN_AUTOMATION"] == "1"
    assert not [name for name in seen if name.startswith(("TENDRIL_", "SUPABASE_"))]
    assert "SOMETHING_ELSE" not in seen
    assert not [value for value in seen.values() if "secret" in value]


def _program(folder: Path, name: str, lines: Sequence[str] = ()) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    program.chmod(0o755)
    return program


def test_terraform_is_preferred_and_tofu_will_do(tmp_path: Path) -> None:
    tofu = _program(tmp_path / "tofu", "tofu")
    both = f"{tofu.parent}:{tmp_path / 'terraform'}"
    assert terraform.find("auto", both) == str(tofu)

    program = _program(tmp_path / "terraform", "terraform")
    assert terraform.find("auto", both) == str(program)
    assert terraform.find("tofu", both) == str(tofu)


def test_a_program_that_is_not_there_is_an_error_with_its_setting(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"terraform or tofu is not on .*TENDRIL_TERRAFORM"):
        terraform.find("auto", str(tmp_path))
    with pytest.raises(StepError, match=r"^tofu is not on the agent's PATH"):
        terraform.find("tofu", str(tmp_path))


async def test_the_version_is_the_first_line_that_the_program_says(bench: Bench) -> None:
    version = await terraform.version_of(
        _PROGRAM, cwd=bench.folder, env=child_environment(bench.environ())
    )

    assert version.startswith(("Terraform v1.", "OpenTofu v1."))


async def test_a_program_that_cannot_say_its_version_is_an_error(bench: Bench) -> None:
    broken = _program(bench.folder / "bin", "terraform", ["echo 'wrong architecture' >&2; exit 7"])

    with pytest.raises(StepError, match="version ended with 7: wrong architecture"):
        await terraform.version_of(str(broken), cwd=bench.folder, env={})
