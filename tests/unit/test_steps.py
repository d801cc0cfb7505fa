"""Time limits, and what stops a step."""

import pytest

from tendril_rt.model import Timeouts
from tendril_rt.runner.steps import STOP_POLICIES, TimeLimits

LIMITS = TimeLimits(init_s=10, plan_s=20, apply_s=100, provision_s=200)


def test_a_configuration_can_only_lower_the_limits() -> None:
    tight = LIMITS.tightened(Timeouts(init_s=99, apply_s=5))

    assert tight == TimeLimits(init_s=10, plan_s=20, apply_s=5, provision_s=200)


@pytest.mark.parametrize(
    ("step", "ran_s", "timeout_s"),
    [("init", 0, 10), ("plan", 50, 20), ("apply", 50, 100), ("apply", 150, 50), ("plan", 999, 0)],
)
def test_a_step_has_its_own_time_within_that_of_the_provision(
    step: str, ran_s: float, timeout_s: float
) -> None:
    assert LIMITS.policy(step, ran_s=ran_s).timeout_s == timeout_s


def test_an_apply_is_never_killed_by_a_policy() -> None:
    policies = {step: LIMITS.policy(step, ran_s=0) for step in STOP_POLICIES}

    assert {step: (p.grace_s, p.kill, p.force_grace_s) for step, p in policies.items()} == {
        "init": (10.0, True, 15.0),
        "plan": (30.0, True, 15.0),
        "apply": (900.0, False, 15.0),
    }
