"""What is said of each way in which a run can end."""

import pytest

from tendril_rt.agent.lease import Interruption
from tendril_rt.agent.outcome import outcome_of, unexpected
from tendril_rt.errors import (
    GitError,
    ProcessLost,
    SnapshotError,
    StepError,
    StepTimeout,
    TerraformError,
)
from tendril_rt.model import Outcome, Phase, Status

FAILED = TerraformError("apply", 1, "terraform apply failed")
TIMEOUT = StepTimeout("apply", 1, "took longer")


def of(
    exc: StepError | SnapshotError,
    why: Interruption | None = None,
    *,
    phase: Phase = Phase.APPLY,
    was_resumed: bool = False,
) -> Outcome | None:
    return outcome_of(
        exc, interruption=why, phase=phase, step="terraform apply", was_resumed=was_resumed
    )


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (FAILED, "TERRAFORM_FAILED"),
        (TIMEOUT, "STEP_TIMEOUT"),
        (GitError("no such tag"), "TEMPLATE_UNAVAILABLE"),
        (SnapshotError("malformed"), "INVALID_CONFIG"),
        (ProcessLost("gone"), "PROCESS_LOST"),
    ],
)
def test_a_failure_is_reported_with_its_code_and_message(
    exc: StepError | SnapshotError, code: str
) -> None:
    assert of(exc) == Outcome(Status.FAILED, str(exc), code)


@pytest.mark.parametrize("exc", [FAILED, TIMEOUT, ProcessLost("gone")])
def test_who_is_fenced_out_before_its_apply_says_nothing(exc: StepError) -> None:
    assert of(exc, Interruption.FENCED_OUT, phase=Phase.PLAN) is None
    assert of(exc, Interruption.FENCED_OUT, phase=Phase.PREPARE, was_resumed=True) is None


def test_who_is_fenced_out_in_its_apply_says_what_became_of_it() -> None:
    stopped = of(FAILED, Interruption.FENCED_OUT)
    assert stopped is not None
    assert (stopped.status, stopped.error_code) == (Status.FAILED, "LEASE_LOST")
    assert stopped.error_message is not None
    assert stopped.error_message.endswith("terraform apply failed")


def test_trust_that_ends_before_the_apply_is_left_to_the_control_plane() -> None:
    assert of(FAILED, Interruption.TRUST_ENDED, phase=Phase.PLAN) is None
    late = of(FAILED, Interruption.TRUST_ENDED)
    assert late is not None
    assert late.error_code == "CONTROL_PLANE_LOST"


def test_a_cancelled_run_says_where_it_was_and_what_terraform_said() -> None:
    cancelled = of(FAILED, Interruption.CANCELLED)

    assert cancelled == Outcome(
        Status.CANCELLED,
        "cancelled by its owner during terraform apply\nterraform apply failed",
        "CANCELLED",
    )


def test_a_shutdown_says_to_submit_again() -> None:
    stopped = of(FAILED, Interruption.SHUTDOWN)

    assert stopped is not None
    assert stopped.error_code == "AGENT_SHUTDOWN"


def test_a_process_that_did_not_outlive_the_agent_is_a_restart() -> None:
    restarted = of(ProcessLost("gone"), was_resumed=True)

    assert restarted is not None
    assert restarted.error_code == "AGENT_RESTARTED"
    assert restarted.error_message is not None
    assert "gone" in restarted.error_message
    assert "may be missing" in restarted.error_message


def test_a_fault_of_the_agent_is_called_one() -> None:
    outcome = unexpected(ValueError("x"), "preparation")

    assert (outcome.status, outcome.error_code) == (Status.FAILED, "INTERNAL")
    assert "fault of the agent" in (outcome.error_message or "")
