"""Reading Infracost's JSON."""

import json

import pytest

from tendril_rt.runner.infracost import CostUnknown, parse

SAID = {
    "version": "0.2",
    "currency": "EUR",
    "projects": [],
    "totalHourlyCost": "0.1013698630136986",
    "totalMonthlyCost": "74",
    "pastTotalMonthlyCost": "0",
    "diffTotalMonthlyCost": "-12.50",
    "summary": {"totalDetectedResources": 3},
}


def test_the_amounts_are_kept_as_decimal_text() -> None:
    assert parse(json.dumps(SAID)) == {
        "currency": "EUR",
        "total_monthly": "74",
        "diff_monthly": "-12.50",
        "past_monthly": "0",
        "total_hourly": "0.1013698630136986",
    }


def test_what_is_not_said_is_left_out() -> None:
    assert parse('{"totalMonthlyCost": "1"}') == {"currency": "USD", "total_monthly": "1"}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"totalMonthlyCost": null}', '{"totalMonthlyCost": "<script>"}'],
)
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(CostUnknown, match="infracost's answer"):
        parse(text)
