"""An attempt's record: written at each step, read back as it was."""

import time
from pathlib import Path

import pytest

from tendril_rt.agent import record as records
from tendril_rt.agent.record import AttemptRecord
from tendril_rt.model import (
    AgentId,
    ClusterId,
    Lease,
    Operation,
    Outcome,
    Phase,
    Provision,
    ProvisionId,
    Status,
)
from tendril_rt.runner.steps import StepResult

PROVISION = Provision(
    lease=Lease(ProvisionId("p1"), 2, AgentId("a1")),
    cluster_id=ClusterId("c1"),
    operation=Operation.DESTROY,
    stack_key="stack",
    snapshot_json='{"terraform_vars": {"n": 12345678901234567890123}}',
    configuration_hash=None,
    signature="v1.0.c2lnbmVk",
)


def full(run_root: Path) -> AttemptRecord:
    return AttemptRecord(
        PROVISION,
        started_at=1000.5,
        phase=Phase.APPLY,
        step="apply",
        run_root=run_root,
        root_module=Path("/w/templates/x"),
        steps=[StepResult("init", 0, 1.5), StepResult("plan", 1, 2.5)],
        facts={"commit": "abc", "resources": {"add": 1}},
        outcome=Outcome(Status.FAILED, "why", "CODE"),
    )


@pytest.mark.parametrize("is_full", [True, False])
def test_a_record_is_read_back_as_it_was(tmp_path: Path, is_full: bool) -> None:
    record = full(tmp_path / "run") if is_full else AttemptRecord(PROVISION, started_at=1.0)
    record.save(tmp_path)

    (read,) = records.load_all(tmp_path)
    assert read == record
    path = tmp_path / "p1.2.json"
    assert path.stat().st_mode & 0o777 == 0o600
    record.discard(tmp_path)
    assert records.load_all(tmp_path) == []


def test_what_was_done_and_begun_is_known(tmp_path: Path) -> None:
    record = full(tmp_path)
    (tmp_path / "apply").mkdir()

    assert record.has_done("init")
    assert not record.has_done("plan"), "it failed"
    assert record.has_begun("apply")
    assert not record.has_begun("init")
    assert not record.was_interrupted
    (tmp_path / "apply" / "interrupted").touch()
    assert record.was_interrupted


@pytest.mark.parametrize("ahead_s", [-86400.0, 86400.0])
def test_a_record_does_not_age_by_a_wall_clock_that_is_set(tmp_path: Path, ahead_s: float) -> None:
    AttemptRecord(PROVISION, started_at=time.time() - ahead_s).save(tmp_path)
    (read,) = records.load_all(tmp_path)

    assert 0.0 <= read.age_s < 600.0


def test_a_record_of_another_boot_has_the_wall_clock_only(tmp_path: Path) -> None:
    AttemptRecord(PROVISION, started_at=time.time() - 3600.0, machine="before").save(tmp_path)
    (read,) = records.load_all(tmp_path)

    assert read.age_s == pytest.approx(3600.0, abs=60.0)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 99}', '{"format": 1}'])
def test_what_is_no_record_is_said_and_left_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "p1.2.json").write_text(text)

    assert records.load_all(tmp_path) == []
    assert "cannot take up" in caplog.text
    assert (tmp_path / "p1.2.json").exists()


def test_a_disk_that_refuses_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full(tmp_path).save(tmp_path / "missing")

    assert "could not take this attempt up" in caplog.text
