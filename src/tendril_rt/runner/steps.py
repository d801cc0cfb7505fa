"""What the steps of a run have in common: results, time limits, and how they are stopped. Pure."""

from dataclasses import dataclass, replace

from tendril_rt.model import Timeouts
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

    def tightened(self, wanted: Timeouts) -> "TimeLimits":
        """Return these limits, lowered to those of *wanted* that are lower."""
        return TimeLimits(
            _lower(self.init_s, wanted.init_s),
            _lower(self.plan_s, wanted.plan_s),
            _lower(self.apply_s, wanted.apply_s),
            _lower(self.provision_s, wanted.provision_s),
        )

    def policy(self, step: str, *, ran_s: float) -> StopPolicy:
        """Return how to stop *step*, which is to begin after *ran_s* seconds of the attempt."""
        own: float = getattr(self, f"{step}_s")
        left = max(0.0, self.provision_s - ran_s)
        return replace(STOP_POLICIES[step], timeout_s=min(own, left))


def _lower(limit_s: float, wanted_s: float | None) -> float:
    return limit_s if wanted_s is None else min(limit_s, wanted_s)
