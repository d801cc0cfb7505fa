"""What the steps of a run have in common: their results, and how they are stopped."""

from dataclasses import dataclass

from tendril_rt.runner.process import StopPolicy

#: Per Terraform command. A second interrupt would make Terraform exit without saving state, so an
#: apply gets one and is then waited for; it is never killed.
STOP_POLICIES = {
    "init": StopPolicy(grace_s=10.0, kill=True),
    "plan": StopPolicy(grace_s=30.0, kill=True),
    "apply": StopPolicy(grace_s=900.0, kill=False),
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one step went."""

    name: str
    exit_code: int
    duration_s: float
