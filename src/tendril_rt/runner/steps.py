"""What the steps of a run have in common: results, time limits, and how they are stopped. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from tendril_rt.runner.attended import StopPolicy

#: Per Terraform command. A second interrupt would make Terraform exit without saving state, so an
#: apply gets one and is then waited for; only a forced request kills it.
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


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """The longest run times, in seconds; ``provision_s`` is for the attempt as a whole."""

    init_s: float
    plan_s: float
    apply_s: float
    provision_s: float

    def tightened(self, wanted: Mapping[str, float]) -> "TimeLimits":
        """Return these limits, lowered to those of *wanted* that are lower."""
        lower = {
            limit.name: min(getattr(self, limit.name), wanted.get(limit.name, float("inf")))
            for limit in fields(self)
        }
        return TimeLimits(**lower)

    def policy(self, step: str, *, ran_s: float) -> StopPolicy:
        """Return how to stop *step*, which is to begin after *ran_s* seconds of the attempt."""
        own: float = getattr(self, f"{step}_s")
        left = max(0.0, self.provision_s - ran_s)
        return replace(STOP_POLICIES[step], timeout_s=min(own, left))
