"""The tree of errors: what may be tried again, and how each is called."""

import inspect
import re

import pytest

from tendril_rt import errors
from tendril_rt.errors import ConfigError, TendrilError, TerraformError, Unavailable

ALL = [
    item
    for _, item in inspect.getmembers(errors, inspect.isclass)
    if issubclass(item, TendrilError)
]


def test_only_an_unavailable_control_plane_is_worth_the_same_call_again() -> None:
    assert [error for error in ALL if error.retryable] == [Unavailable]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_has_a_code_of_upper_case_words(error: type[TendrilError]) -> None:
    assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", error.code)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_says_when_it_is_raised(error: type[TendrilError]) -> None:
    assert error.__doc__


def test_settings_errors_list_every_problem() -> None:
    error = ConfigError("A is not set", "B must be a number")
    assert error.problems == ("A is not set", "B must be a number")
    assert str(error) == "A is not set\nB must be a number"


def test_a_terraform_error_keeps_step_and_exit_code() -> None:
    error = TerraformError("plan", -2, "terraform plan was interrupted")
    assert (error.step, error.exit_code, str(error)) == (
        "plan",
        -2,
        "terraform plan was interrupted",
    )
