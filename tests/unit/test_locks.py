"""What is said of a state lock: only what can be proven."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tendril_rt.runner import locks
from tendril_rt.runner.launched import COOKIE
from tendril_rt.runner.locks import LockAdvice, LockHistory, LockState, LockUse
from tendril_rt.runner.procfs import machine

CREATED = 1795295712.768127  # 2026-11-21 21:15:12.768127 UTC
BLOCK = """
  ID:        93e70731-4eaf-7a4e-6fb1-1be938887555
  Path:      acme/terraform.tfstate
  Operation: OperationTypeApply
  Who:       root@vm
  Version:   1.11.4
  Created:   2026-11-21 21:15:12.768127253 +0000 UTC
  Info:
"""
UNLOCK = "terraform force-unlock -force 93e70731-4eaf-7a4e-6fb1-1be938887555"
USE = LockUse(
    provision_id="p1",
    attempt=1,
    operation="OperationTypeApply",
    who="root@vm",
    machine=machine(),
    run_dir="/nowhere/run/apply",
    began_at=CREATED - 10,
    ended_at=CREATED + 10,
)
#: The command that met the lock.
NOW = replace(USE, provision_id="p2", began_at=CREATED + 100, ended_at=None)


def advise(
    *history: LockUse, block: str | None = BLOCK, was_killed: bool = False, backend: str = "s3"
) -> LockAdvice | None:
    return locks.advise(
        block, NOW, history, was_killed=was_killed, program="terraform", backend=backend
    )


def test_the_block_is_read() -> None:
    lock = locks.parse(BLOCK)

    assert lock is not None
    assert (lock.id, lock.path) == (
        "93e70731-4eaf-7a4e-6fb1-1be938887555",
        "acme/terraform.tfstate",
    )
    assert (lock.operation, lock.who) == ("OperationTypeApply", "root@vm")
    assert lock.created_at == pytest.approx(CREATED, abs=0.001)


@pytest.mark.parametrize(
    ("created", "seconds"),
    [
        ("2026-11-21 21:15:12 +0000 UTC", CREATED - 0.768127),
        ("2026-11-21 21:15:12.7 +0000 UTC", CREATED - 0.068127),
        ("yesterday", None),
    ],
)
def test_a_time_that_cannot_be_read_is_none(created: str, seconds: float | None) -> None:
    lock = locks.parse(f"ID: x\nPath:\nCreated: {created}\n")

    assert lock is not None
    assert lock.path == ""
    expected = None if seconds is None else pytest.approx(seconds, abs=0.001)
    assert lock.created_at == expected


def test_a_block_without_an_id_is_none() -> None:
    assert locks.parse("Path: x\n") is None


def test_a_dead_attempt_of_ours_leaves_an_orphan() -> None:
    advice = advise(USE)

    assert advice is not None
    assert (advice.state, advice.command) == (LockState.ORPHANED, UNLOCK)
    assert "attempt 1 of provision p1 took it, and its process is dead" in advice.text
    assert advice.as_metadata()["id"] == "93e70731-4eaf-7a4e-6fb1-1be938887555"


def test_a_living_attempt_of_ours_holds_it(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], env={COOKIE: str(tmp_path)}) as alive:
        try:
            advice = advise(replace(USE, run_dir=str(tmp_path)))
        finally:
            alive.kill()

    assert advice is not None
    assert (advice.state, advice.command) == (LockState.HELD_BY_LIVE_ATTEMPT, UNLOCK)
    assert "alive" in advice.reason


@pytest.mark.parametrize(
    "change",
    [
        {"who": "jane@laptop"},
        {"operation": "OperationTypePlan"},
        {"began_at": CREATED + 5},
        {"ended_at": CREATED - 5},
        {"machine": "another boot"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_be_proven_is_unknown(change: dict[str, object]) -> None:
    advice = advise(replace(USE, **change))  # type: ignore[arg-type]

    assert advice is not None
    assert (advice.state, advice.command) == (LockState.UNKNOWN, UNLOCK)
    assert "root@vm took it for OperationTypeApply" in advice.reason
    assert ("another boot" in advice.reason) == ("machine" in change)


def test_a_command_that_never_ended_fits_all_that_came_after() -> None:
    advice = advise(replace(USE, ended_at=None, began_at=CREATED - 10_000))

    assert advice is not None
    assert advice.state is LockState.ORPHANED


def test_a_lock_on_a_local_file_is_held_by_somebody_alive() -> None:
    advice = advise(USE, backend="local")

    assert advice is not None
    assert (advice.state, advice.command) == (
        LockState.UNKNOWN,
        "fuser -v 'acme/terraform.tfstate'",
    )


_HTTP = f"Error message: HTTP remote state already locked: ID=abc-1\nLock Info:\n{BLOCK}"
_PG = f"Error message: Already locked for workspace\nLock Info:\n{BLOCK}"


@pytest.mark.parametrize(
    ("said", "lock_id", "reason"),
    [(_HTTP, "abc-1", "does not say who holds it"), (_PG, None, "nor its ID")],
)
def test_a_backend_that_shows_the_failed_request_itself_proves_nothing(
    said: str, lock_id: str | None, reason: str
) -> None:
    failed = replace(NOW, began_at=CREATED - 1)
    killed = replace(USE, began_at=CREATED - 50, ended_at=CREATED - 40, was_killed=True)

    advice = locks.advise(
        said, failed, [killed], was_killed=False, program="terraform", backend="http"
    )

    assert advice is not None
    assert (advice.state, advice.id) == (LockState.UNKNOWN, lock_id)
    assert advice.command == f"terraform force-unlock -force {lock_id or '<ID>'}"
    assert reason in advice.reason
    assert "attempt 1 of provision p1 was killed and may have left it" in advice.reason


def test_such_a_backend_and_a_living_attempt_are_held(tmp_path: Path) -> None:
    failed = replace(NOW, began_at=CREATED - 1)
    with subprocess.Popen(["sleep", "60"], env={COOKIE: str(tmp_path)}) as alive:
        try:
            advice = locks.advise(
                _HTTP,
                failed,
                [replace(USE, run_dir=str(tmp_path))],
                was_killed=False,
                program="tofu",
                backend="http",
            )
        finally:
            alive.kill()

    assert advice is not None
    assert advice.state is LockState.HELD_BY_LIVE_ATTEMPT
    assert advice.command == "tofu force-unlock -force abc-1"


def test_after_a_kill_the_advice_says_how_to_get_the_id() -> None:
    advice = advise(block=None, was_killed=True)

    assert advice is not None
    assert (advice.state, advice.id) == (LockState.ORPHANED, None)
    assert advice.command == "terraform plan -input=false"
    assert "shows its ID" in advice.reason
    assert "terraform force-unlock -force <ID>" in advice.reason


def test_after_a_kill_a_local_state_needs_nothing() -> None:
    advice = advise(block=None, was_killed=True, backend="local")

    assert advice is not None
    assert advice.command == "terraform plan -input=false"
    assert "force-unlock" not in advice.text


def test_a_run_that_ended_by_itself_needs_no_advice() -> None:
    assert advise(block=None) is None


def test_the_history_keeps_what_ran_and_when_it_ended(tmp_path: Path) -> None:
    history = LockHistory(tmp_path / "history.json")
    with history.during(replace(USE, ended_at=None)) as noted:
        assert noted.before == []
        assert [use.ended_at for use in history.read()] == [None]
    other = replace(USE, attempt=2, ended_at=None)
    with history.during(other) as noted:
        assert [use.attempt for use in noted.before] == [1]
        noted.was_killed = True

    assert [(use.attempt, use.was_killed) for use in history.read()] == [(1, False), (2, True)]
    assert all(use.ended_at is not None for use in history.read())
    assert (tmp_path / "history.json").stat().st_mode & 0o777 == 0o600


def test_a_command_that_is_taken_up_again_keeps_its_beginning(tmp_path: Path) -> None:
    history = LockHistory(tmp_path / "history.json")
    with history.during(replace(USE, ended_at=None)), history.during(replace(USE, began_at=9e9)):
        assert [use.began_at for use in history.read()] == [USE.began_at]


def test_the_history_is_bounded_and_survives_nonsense(tmp_path: Path) -> None:
    history = LockHistory(tmp_path / "history.json")
    (tmp_path / "history.json").write_text('[{"a": 1}]')
    for attempt in range(50):
        with history.during(replace(USE, attempt=attempt)):
            pass

    assert [use.attempt for use in history.read()] == list(range(30, 50))


def test_a_disk_that_refuses_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LockHistory(tmp_path / "missing" / "history.json").during(USE):
        pass

    assert "lock advice will know less" in caplog.text
