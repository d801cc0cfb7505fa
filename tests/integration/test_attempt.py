"""Attempts with real Terraform: what they report, how they are stopped, what they leave behind."""

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tendril_rt.agent import record as records
from tendril_rt.errors import StepError
from tendril_rt.model import Cancel, Operation, Phase, Status, StreamType
from tendril_rt.runner import cliconfig, infracost
from tendril_rt.runner.cliconfig import CliConfig

from .attempts import PROGRAM, Bench, Said
from .runner_support import until
from .s3_server import Bucket, s3_server
from .state_server import StateServer, state_server

pytestmark = pytest.mark.integration

_SAYS = """
variable "name" { default = "x" }
resource "terraform_data" "one" { input = var.name }
output "said" { value = terraform_data.one.output }
output "exact" { value = 12345678901234567890123 }
output "secret" {
  value     = "hidden"
  sensitive = true
}
"""
_SLOW = """
variable "folder" { type = string }
resource "terraform_data" "one" {}
resource "terraform_data" "slow" {
  depends_on = [terraform_data.one]
  provisioner "local-exec" {
    command = <<-EOT
      touch '${var.folder}/begun'
      while [ ! -e '${var.folder}/go' ]; do sleep 0.05; done
      echo finished
    EOT
  }
}
"""


@pytest.fixture
def store() -> Iterator[StateServer]:
    with state_server() as running:
        yield running


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with s3_server() as running:
        yield running


_MANY_FILES = """
resource "terraform_data" "files" {
  provisioner "local-exec" { command = "mkdir many && cd many && seq 20000 | xargs touch" }
}
"""


@pytest.fixture
def bench(tmp_path: Path, store: StateServer, bucket: Bucket) -> Bench:
    made = Bench(tmp_path)
    made.templates(
        says=_SAYS,
        slow=_SLOW,
        many_files=_MANY_FILES,
        remote=store.backend() + _SAYS,
        remote_slow=store.backend() + _SLOW,
        s3=bucket.backend() + _SAYS,
        s3_slow=bucket.backend() + _SLOW,
    )
    return made


def _variables(bench: Bench) -> dict[str, object]:
    return {"folder": str(bench.folder)}


def _lock(said: Said) -> dict[str, object]:
    lock = said.metadata["lock"]
    assert isinstance(lock, dict)
    return lock


# --- what is reported -----------------------------------------------------------------------------


async def test_an_apply_reports_its_counts_its_outputs_and_its_steps(bench: Bench) -> None:
    said = await bench.run(bench.provision("says", terraform_vars={"name": "hello"}))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS, said.message
    assert said.metadata["resources"] == {"add": 1, "change": 0, "destroy": 0}
    assert said.metadata["outputs"] == {"said": "hello", "exact": "12345678901234567890123"}
    assert "hidden" not in json.dumps(said.metadata)
    assert "hidden" not in said.text()
    steps = said.metadata["steps"]
    assert isinstance(steps, list)
    assert [(s["name"], s["exit_code"]) for s in steps] == [("init", 0), ("plan", 0), ("apply", 0)]
    assert all(step["duration_s"] > 0 for step in steps)
    assert said.metadata["terraform_version"] == "Terraform v1"
    assert re.fullmatch("[0-9a-f]{40}", str(said.metadata["commit"]))
    assert "lock" not in said.metadata
    assert records.load_all(bench.equipment.record_dir) == []
    assert bench.living() == []


async def test_a_plan_reports_what_it_would_do_and_a_destroy_what_it_did(bench: Bench) -> None:
    planned = await bench.run(bench.provision("says", operation=Operation.PLAN))
    await bench.run(bench.provision("says"))
    destroyed = await bench.run(bench.provision("says", operation=Operation.DESTROY))

    assert planned.metadata["resources"] == {"add": 1, "change": 0, "destroy": 0}
    assert "outputs" not in planned.metadata
    assert destroyed.metadata["resources"] == {"add": 0, "change": 0, "destroy": 1}


async def test_a_failed_step_is_among_the_steps(bench: Bench) -> None:
    bench.wrap('if [ "$1" = plan ]; then echo "Error: no" >&2; exit 1; fi')

    said = await bench.run(bench.provision("says"))

    steps = said.metadata["steps"]
    assert isinstance(steps, list)
    assert [(step["name"], step["exit_code"]) for step in steps] == [("init", 0), ("plan", 1)]
    assert steps[1]["duration_s"] > 0
    assert "Error: no" in said.message


# --- cancel ---------------------------------------------------------------------------------------

_HANGS_IN = """
if [ "$1" = {step} ]; then
  sleep 600 &
  touch '{folder}/begun'
  wait
fi
"""


@pytest.mark.parametrize("step", ["init", "plan"])
async def test_cancel_before_the_apply_leaves_no_process_and_a_free_lock(
    bench: Bench, step: str
) -> None:
    bench.wrap(_HANGS_IN.format(step=step, folder=bench.folder))
    said = Said()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, bench.provision("says"), said)
        await until((bench.folder / "begun").exists, within_s=20)
        said.cancel = Cancel.GRACEFUL

    assert said.outcome is not None
    assert said.outcome.status is Status.CANCELLED
    assert f"during terraform {step}" in said.message
    assert bench.living() == []
    assert Phase.APPLY not in said.phases
    bench.program = PROGRAM
    again = await bench.run(bench.provision("says"))
    assert again.outcome is not None
    assert again.outcome.status is Status.SUCCESS


async def test_cancel_in_an_apply_keeps_the_state_and_frees_the_lock(
    bench: Bench, store: StateServer
) -> None:
    said = Said()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            bench.run, bench.provision("remote_slow", terraform_vars=_variables(bench)), said
        )
        await until((bench.folder / "begun").exists, within_s=20)
        said.cancel = Cancel.GRACEFUL

    assert said.outcome is not None
    assert said.outcome.status is Status.CANCELLED
    assert "Interrupt received" in said.text(StreamType.STDOUT)
    assert "Two interrupts" not in said.text()
    assert "one" in store.resources
    assert store.lock is None
    assert bench.living() == []


async def test_force_ends_an_apply_that_hangs_and_says_what_is_left(
    bench: Bench, store: StateServer
) -> None:
    said = Said()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            bench.run, bench.provision("remote_slow", terraform_vars=_variables(bench)), said
        )
        await until((bench.folder / "begun").exists, within_s=20)
        store.open_for_writes.clear()  # it will wait for its backend, for ever
        said.cancel = Cancel.GRACEFUL
        await until(lambda: "Interrupt received" in said.text(), within_s=20)
        assert said.outcome is None
        said.cancel = Cancel.FORCE

    assert said.outcome is not None
    assert said.outcome.status is Status.CANCELLED
    assert "Two interrupts received" in said.text()
    assert bench.living() == []
    assert store.lock is not None
    assert _lock(said)["state"] == "ORPHANED"
    assert "force-unlock -force <ID>" in said.message


async def test_who_is_fenced_out_in_an_apply_interrupts_it_once_and_says_what_became_of_it(
    bench: Bench, store: StateServer
) -> None:
    said = Said()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            bench.run, bench.provision("remote_slow", terraform_vars=_variables(bench)), said
        )
        await until((bench.folder / "begun").exists, within_s=20)
        said.held = False

    assert said.outcome is not None
    assert said.outcome.error_code == "LEASE_LOST"
    assert "terraform apply failed" in said.message
    assert "one" in store.resources
    assert store.lock is None
    assert bench.living() == []
    assert "Interrupt received" in said.text(StreamType.STDOUT)
    assert "Two interrupts" not in said.text()


# --- time limits ----------------------------------------------------------------------------------


async def test_an_apply_that_takes_too_long_is_interrupted_once_and_keeps_its_state(
    bench: Bench, store: StateServer
) -> None:
    said = await bench.run(
        bench.provision("remote_slow", terraform_vars=_variables(bench), timeouts={"apply_s": 1.5})
    )

    assert said.outcome is not None
    assert (said.outcome.status, said.outcome.error_code) == (Status.FAILED, "STEP_TIMEOUT")
    assert "longer than the 1.5 s" in said.message
    assert "TENDRIL_APPLY_TIMEOUT_S" in said.message
    assert "Two interrupts" not in said.text()
    assert "one" in store.resources
    assert store.lock is None
    assert bench.living() == []


async def test_an_init_that_takes_too_long_is_stopped_with_all_it_started(bench: Bench) -> None:
    bench.wrap(_HANGS_IN.format(step="init", folder=bench.folder))
    bench.settings = dataclasses.replace(bench.settings, init_timeout_s=1.0)

    said = await bench.run(bench.provision("says", timeouts={"init_s": 500}))

    assert said.outcome is not None
    assert said.outcome.error_code == "STEP_TIMEOUT"
    assert "longer than the 1 s" in said.message
    assert bench.living() == []


async def test_a_provision_without_time_left_begins_nothing(bench: Bench) -> None:
    said = await bench.run(bench.provision("says", timeouts={"provision_s": 0.000001}))

    assert said.outcome is not None
    assert said.outcome.error_code == "STEP_TIMEOUT"
    assert "terraform init was not begun" in said.message


# --- locks ----------------------------------------------------------------------------------------


async def _killed(bench: Bench, template: str) -> Said:
    """Run an apply whose Terraform alone is killed in the middle of it."""
    said = Said()
    provision = bench.provision(template, terraform_vars=_variables(bench))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, provision, said)
        await until((bench.folder / "begun").exists, within_s=20)
        (process,) = bench.equipment.settings.workspace_dir.glob("*/run/apply/process")
        os.kill(int(process.read_text().split()[0]), 9)
    return said


async def test_a_killed_apply_leaves_a_lock_that_the_next_run_names_with_its_cure(
    bench: Bench, store: StateServer
) -> None:
    said = await _killed(bench, "remote_slow")

    assert said.outcome is not None
    assert said.outcome.status is Status.FAILED
    assert "signal 9" in said.message
    assert _lock(said) | {"reason": ""} == {
        "state": "ORPHANED",
        "id": None,
        "command": "terraform plan -input=false",
        "reason": "",
    }
    assert "State lock ORPHANED" in said.message
    assert store.lock is not None
    assert bench.living() == [], "no provisioner outlives its Terraform"

    after = await bench.run(bench.provision("remote"))

    assert after.outcome is not None
    assert after.outcome.status is Status.FAILED
    assert _lock(after)["state"] == "UNKNOWN", "the http backend does not say whose it is"
    assert "attempt 1 of provision 00000000-0000-4000-8000-000000000001 was killed" in after.message
    command = str(_lock(after)["command"])
    assert command == f"terraform force-unlock -force {store.lock_id}"
    assert command in after.message
    _clear(bench, store.backend(), command)
    assert store.lock is None
    assert (await bench.run(bench.provision("remote"))).metadata["resources"]


async def test_where_the_backend_names_the_holder_the_lock_is_proven_orphaned(
    bench: Bench, bucket: Bucket
) -> None:
    await _killed(bench, "s3_slow")
    lock = json.loads(bucket.objects["terraform.tfstate.tflock"])

    after = await bench.run(bench.provision("s3"))

    assert _lock(after)["state"] == "ORPHANED", after.message
    assert _lock(after)["command"] == f"terraform force-unlock -force {lock['ID']}"
    assert "its process is dead" in after.message
    _clear(bench, bucket.backend(), str(_lock(after)["command"]))
    assert "terraform.tfstate.tflock" not in bucket.objects
    assert (await bench.run(bench.provision("s3"))).message == ""


def _clear(bench: Bench, backend: str, command: str) -> None:
    """Do what the advice says, as its reader would."""
    folder = bench.folder / "by-hand"
    folder.mkdir()
    (folder / "main.tf").write_text(backend)
    for line in ("terraform init -input=false", command):
        argv = [PROGRAM, *line.split()[1:]]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True)


async def test_a_lock_of_somebody_else_is_unknown(bench: Bench, store: StateServer) -> None:
    store.lock = json.dumps(
        {
            **{"ID": "abc-1", "Operation": "OperationTypeApply", "Info": "", "Path": ""},
            **{"Who": "jane@laptop", "Version": "1.11.4"},
            "Created": "2026-01-01T00:00:00.123456789Z",
        }
    ).encode()

    said = await bench.run(bench.provision("remote"))

    assert said.outcome is not None
    assert _lock(said)["state"] == "UNKNOWN"
    assert _lock(said)["command"] == "terraform force-unlock -force abc-1"
    assert "the backend does not say who holds it" in said.message


@pytest.mark.parametrize("backend", ["remote", "s3"])
async def test_a_lock_of_an_attempt_that_runs_is_held(bench: Bench, backend: str) -> None:
    first = Said()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            bench.run, bench.provision(f"{backend}_slow", terraform_vars=_variables(bench)), first
        )
        await until((bench.folder / "begun").exists, within_s=20)
        second = await bench.run(bench.provision(backend))
        (bench.folder / "go").touch()

    assert first.outcome is not None
    assert first.outcome.status is Status.SUCCESS
    assert _lock(second)["state"] == "HELD_BY_LIVE_ATTEMPT"
    assert "wait for its end" in second.message


async def test_a_killed_apply_with_a_local_state_needs_no_unlocking(bench: Bench) -> None:
    said = await _killed(bench, "slow")

    assert "force-unlock" not in said.message
    assert "its lock on a local file with it" in said.message
    (bench.folder / "go").touch()
    again = await bench.run(bench.provision("slow", terraform_vars=_variables(bench)))
    assert again.outcome is not None
    assert again.outcome.status is Status.SUCCESS, again.message


# --- a state that cannot be stored ----------------------------------------------------------------


async def test_a_state_that_the_backend_refuses_once_is_stored_again(
    bench: Bench, store: StateServer
) -> None:
    store.refuse_writes = 1

    said = await bench.run(bench.provision("remote"))

    assert said.outcome is not None
    assert said.outcome.status is Status.FAILED
    assert "it was stored at try 1" in said.message
    assert store.resources == ["one"]
    assert list(bench.folder.glob("state/tfstate/*/errored-*")) == []


async def test_a_state_that_the_backend_refuses_for_good_is_kept(
    bench: Bench, store: StateServer
) -> None:
    store.refuse_writes = 1000

    said = await bench.run(bench.provision("remote"))

    (kept,) = bench.folder.glob("state/tfstate/*/errored-*")
    assert len(store.refused) == 4, "once by the apply, then three tries"
    assert str(kept) in said.message
    assert "state push ended with 1" in said.message
    assert json.loads(kept.read_text())["resources"][0]["name"] == "one"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert store.lock is None


# --- backends and providers -----------------------------------------------------------------------


async def test_templates_without_a_backend_get_the_agents_own_kept_apart_by_stack(
    bench: Bench, store: StateServer
) -> None:
    bench.extra["default_backend"] = store.backend().replace("/state", "/__STACK__")

    said = await bench.run(bench.provision("says"))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS, said.message
    assert store.resources == ["one"]
    assert list(bench.folder.glob("state/tfstate/*/terraform.tfstate")) == []


async def test_terraform_takes_the_configuration_that_the_agent_writes(bench: Bench) -> None:
    mirror = bench.folder / "mirror"
    (mirror / "registry.terraform.io" / "hashicorp" / "aws").mkdir(parents=True)
    bench.extra["cli"] = config = cliconfig.write(
        bench.folder, cache=bench.folder / "cache", mirror=mirror, environ={}
    )

    said = await bench.run(bench.provision("says"))
    _spoil(Path(config.env["TF_CLI_CONFIG_FILE"]))
    read = await bench.run(bench.provision("says"))

    assert said.message == ""
    assert _COMPLAINT not in said.text()
    assert _COMPLAINT in read.text(), "it is this file that Terraform reads"


_COMPLAINT = "problems with the CLI configuration"


def _spoil(file: Path) -> None:
    file.write_text(file.read_text() + "nonsense {")


async def test_inits_that_share_a_plugin_cache_take_turns(bench: Bench) -> None:
    bench.wrap(
        f"""if [ "$1" = init ]; then
  mkdir '{bench.folder}/turn' || {{ echo 'two at once' >&2; exit 1; }}
  sleep 0.3; $real "$@"; code=$?
  rmdir '{bench.folder}/turn'; exit $code
fi"""
    )
    bench.extra["cli"] = CliConfig({}, shares_cache=True)
    bench.extra["init_turn"] = anyio.Lock()
    said = [Said(), Said(), Said()]
    async with anyio.create_task_group() as tasks:
        for number, each in enumerate(said):
            provision = bench.provision("says", stack=f"stack {number}")
            tasks.start_soon(bench.run, provision, each)

    assert [each.message for each in said] == ["", "", ""]


# --- cost -----------------------------------------------------------------------------------------

_INFRACOST = """#!/bin/sh
[ "$1 $2" = "breakdown --path" ] || exit 64
echo "$INFRACOST_API_KEY" > {folder}/key
{more}
while [ $# -gt 0 ]; do
  case $1 in
    --out-file) out=$2;;
    --terraform-var-file) [ -e "$2" ] || exit 65;;
  esac
  shift
done
cat > "$out" <<EOT
{{"version": "0.2", "currency": "USD", "projects": [], "totalHourlyCost": "0.1",
  "totalMonthlyCost": "74.6", "diffTotalMonthlyCost": "74.6"}}
EOT
"""


def _install_infracost(bench: Bench, more: str = "") -> None:
    path = bench.folder / "bin" / "infracost"
    path.parent.mkdir()
    path.write_text(_INFRACOST.format(folder=bench.folder, more=more))
    path.chmod(0o755)
    bench.environ["PATH"] = f"{path.parent}:{os.environ['PATH']}"
    bench.environ["INFRACOST_API_KEY"] = "ico-secret"


async def test_a_cost_is_estimated_where_the_configuration_asks_for_it(bench: Bench) -> None:
    _install_infracost(bench)

    said = await bench.run(bench.provision("says", cost_estimate=True))
    without = await bench.run(bench.provision("says"))

    assert said.metadata["cost"] == {
        **{"currency": "USD", "total_monthly": "74.6"},
        **{"diff_monthly": "74.6", "total_hourly": "0.1"},
    }
    assert "cost: 74.6 USD a month" in said.text(StreamType.SYSTEM)
    assert (bench.folder / "key").read_text() == "ico-secret\n"
    assert "cost" not in without.metadata


@pytest.mark.parametrize(
    ("more", "why"),
    [("echo 'no key' >&2; exit 1", "infracost ended with 1: no key"), ("exit 0", "left no answer")],
)
async def test_an_estimate_that_fails_fails_no_run(bench: Bench, more: str, why: str) -> None:
    _install_infracost(bench, more)
    bench.settings = dataclasses.replace(bench.settings, cost_estimate=True)

    said = await bench.run(bench.provision("says"))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS
    assert why in said.text(StreamType.SYSTEM)
    assert "cost" not in said.metadata


async def test_an_estimate_without_infracost_fails_no_run(bench: Bench) -> None:
    said = await bench.run(bench.provision("says", cost_estimate=True))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS
    assert "infracost is not on the agent's PATH" in said.text(StreamType.SYSTEM)


async def test_an_estimate_that_takes_too_long_is_killed(bench: Bench) -> None:
    _install_infracost(bench, "sleep 60")

    with pytest.raises(StepError, match=r"was not done after 0\.3 s"):
        await infracost.estimate(
            bench.folder,
            variables=bench.folder / "x",
            answer=bench.folder / "answer",
            env=bench.environ,
            timeout_s=0.3,
        )


# --- after a crash of the agent -------------------------------------------------------------------


async def _crashed(bench: Bench, template: str) -> records.AttemptRecord:
    """Kill an agent in the middle of an apply; return the record that it left."""
    provision = bench.provision(template, terraform_vars=_variables(bench))
    agent = bench.doomed(provision)
    try:
        await until((bench.folder / "begun").exists, within_s=30)
    finally:
        agent.kill()
        agent.wait()
    (record,) = records.load_all(bench.equipment.record_dir)
    assert (record.step, record.phase) == ("apply", Phase.APPLY)
    return record


async def test_an_apply_whose_agent_was_killed_is_taken_up_and_ends_well(
    bench: Bench, store: StateServer
) -> None:
    record = await _crashed(bench, "remote_slow")
    assert record.has_begun("apply")
    assert not record.was_interrupted
    (bench.folder / "go").touch()

    said = await bench.resume(record)

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS, said.message
    assert said.metadata["resources"] == {"add": 2, "change": 0, "destroy": 0}
    assert said.metadata["commit"] == record.facts["commit"]
    steps = said.metadata["steps"]
    assert isinstance(steps, list)
    assert [step["name"] for step in steps] == ["init", "plan", "apply"]
    assert said.phases[0] is Phase.APPLY
    assert store.resources == ["one", "slow"]
    assert store.lock is None
    assert bench.living() == []
    assert list(bench.equipment.settings.workspace_dir.iterdir()) == []
    assert records.load_all(bench.equipment.record_dir) == []


async def test_an_apply_that_is_taken_up_can_be_cancelled(bench: Bench, store: StateServer) -> None:
    record = await _crashed(bench, "remote_slow")

    said = await bench.resume(record, Said(cancel=Cancel.GRACEFUL))

    assert said.outcome is not None
    assert said.outcome.status is Status.CANCELLED
    assert "one" in store.resources
    assert store.lock is None
    assert bench.living() == []


async def test_an_apply_that_did_not_outlive_its_agent_is_reported_with_advice(
    bench: Bench, store: StateServer
) -> None:
    record = await _crashed(bench, "remote_slow")
    assert record.run_root is not None
    for name in ("launcher", "process"):
        os.kill(int((record.run_root / "apply" / name).read_text().split()[0]), 9)

    said = await bench.resume(record)

    assert said.outcome is not None
    assert (said.outcome.status, said.outcome.error_code) == (Status.FAILED, "AGENT_RESTARTED")
    assert _lock(said)["state"] == "ORPHANED"
    assert "force-unlock -force <ID>" in said.message
    assert bench.living() == [], "nor does its provisioner"


async def test_an_outcome_that_was_not_reported_is_reported_and_nothing_runs(
    bench: Bench,
) -> None:
    record = await _crashed(bench, "slow")
    (bench.folder / "go").touch()
    said = await bench.resume(record)
    record.outcome = said.outcome

    again = await bench.resume(record)

    assert again.outcome == said.outcome
    assert again.chunks == []


async def test_the_outcome_is_on_record_before_the_workspace_goes(bench: Bench) -> None:
    provision = bench.provision("many_files")  # so that removing it takes a while
    root = bench.folder / "workspaces" / provision.lease.provision_id
    seen: list[bool] = []

    async def watch() -> None:
        record = bench.equipment.record_dir / f"{provision.lease.provision_id}.1.json"
        while not seen:
            if record.exists() and '"step": "report"' in record.read_text():
                seen.append(root.exists())
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        said = await bench.run(provision)
        tasks.cancel_scope.cancel()

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS
    assert seen == [True]


async def test_what_an_earlier_attempt_left_running_is_stopped_before_the_next(
    bench: Bench,
) -> None:
    bench.wrap(_HANGS_IN.format(step="plan", folder=bench.folder))
    provision = bench.provision("says")
    agent = bench.doomed(provision)
    try:
        await until((bench.folder / "begun").exists, within_s=30)
    finally:
        agent.kill()
        agent.wait()
    assert bench.living() != []
    bench.program = PROGRAM
    next_lease = dataclasses.replace(provision.lease, attempt=2)

    said = await bench.run(dataclasses.replace(provision, lease=next_lease))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS, said.message
    assert bench.living() == []
