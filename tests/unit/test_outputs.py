"""Outputs fit to be shown and stored."""

import json

import orjson
import pytest

from tendril_rt.runner import outputs


def parse(**values: object) -> dict[str, object]:
    said = {n: {"sensitive": False, "type": "dynamic", "value": v} for n, v in values.items()}
    return dict(outputs.parse(json.dumps(said)))


def test_values_come_by_name() -> None:
    values = {"url": "https://x", "ports": [80, 443], "tags": {"a": True}, "none": None, "f": 1.5}

    assert parse(**values) == values


def test_what_is_marked_sensitive_or_not_marked_at_all_is_left_out() -> None:
    text = json.dumps(
        {"a": {"sensitive": True, "value": "s"}, "b": {"value": "s"}, "c": "s", "d": 1}
    )

    assert outputs.parse(text) == {}


@pytest.mark.parametrize("digits", ["12345678901234567890123", "9007199254740993", "0.10", "1e999"])
def test_numbers_that_readers_round_become_text(digits: str) -> None:
    said = outputs.parse(f'{{"n": {{"sensitive": false, "value": {digits}}}}}')

    assert said == {"n": digits}


def test_what_a_database_refuses_is_taken_out() -> None:
    deep: object = "bottom"
    for _ in range(200):
        deep = [deep]
    said = outputs.parse(
        json.dumps({"a": {"sensitive": False, "value": {"k\0": "x\0y\ud800", "deep": deep}}})
    )

    assert "\\u0000" not in orjson.dumps(said).decode()
    assert said["a"]["k"] == "xy?"  # type: ignore[index]


def test_they_are_bounded() -> None:
    assert list(parse(small="x", large="x" * 100_000, more="x")) == ["small"]


@pytest.mark.parametrize("text", ["", "[]", '"x"', "{"])
def test_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an object|Expecting"):
        outputs.parse(text)
