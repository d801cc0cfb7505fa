"""A configuration on its way to Terraform: every digit kept, every fault named, nothing crashes."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.control.snapshot import check_hash, parse_snapshot, snapshot_hash
from tendril_rt.errors import SnapshotError
from tendril_rt.model import Timeouts

TEMPLATE = '"template_source": {"repo": "https://example.com/t.git", "version": "v1"}'
TWENTY_THREE_DIGITS = "12345678901234567890123"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def snapshot(fields: str) -> str:
    return f"{{{TEMPLATE}, {fields}}}"


def refusal(text: str) -> str:
    """Return the message of the SnapshotError that reading *text* must end in."""
    with pytest.raises(SnapshotError) as refused:
        parse_snapshot(text)
    return str(refused.value)


# --- config_snapshot ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["9007199254740993", "-9007199254740993", TWENTY_THREE_DIGITS, "18446744073709551616"],
)
def test_an_integer_reaches_terraform_exactly_as_written(number: str) -> None:
    parsed = parse_snapshot(snapshot(f'"terraform_vars": {{"a": {number}}}'))
    assert parsed.terraform_vars_json == f'{{"a": {number}}}'


@pytest.mark.parametrize(
    "number",
    [
        *("0.1234567890123456789012345", "1.10", "100.0", "1E+400", "1e400", "-0.0", "-0", "1e5"),
        *("1e99999999999999999999", "9" * 5000),
    ],
)
def test_a_fraction_reaches_terraform_exactly_as_written(number: str) -> None:
    parsed = parse_snapshot(snapshot(f'"terraform_vars": {{"a": [{number}]}}'))
    assert parsed.terraform_vars_json == f'{{"a": [{number}]}}'


@given(st.integers(-(10**40), 10**40))
def test_every_integer_survives_however_deep_it_lies(number: int) -> None:
    parsed = parse_snapshot(snapshot(f'"terraform_vars": {{"a": {{"b": [{number}]}}}}'))
    assert json.loads(parsed.terraform_vars_json) == {"a": {"b": [number]}}


@pytest.mark.parametrize("fields", ['"terraform_vars": null', '"terraform_vars": {}', '"x": 1'])
def test_no_variables_are_an_empty_object_and_never_null(fields: str) -> None:
    assert parse_snapshot(snapshot(fields)).terraform_vars_json == "{}"


def test_text_of_any_script_survives_in_variables() -> None:
    parsed = parse_snapshot(snapshot('"terraform_vars": {"a": "žluťoučký \\"kůň\\" 🐴\\n"}'))
    assert json.loads(parsed.terraform_vars_json) == {"a": 'žluťoučký "kůň" 🐴\n'}


def test_the_template_is_read_and_its_path_may_be_left_out() -> None:
    source = parse_snapshot(snapshot('"x": 1')).template
    assert (source.repo, source.version, source.path) == ("https://example.com/t.git", "v1", "")


def test_unknown_keys_are_ignored_wherever_they_are() -> None:
    text = (
        '{"template_source": {"repo": "r", "version": "v", "path": "p", "new": 1},'
        ' "meta": {"reason": "x"}, "newer": []}'
    )
    assert parse_snapshot(text).template.path == "p"


def test_backend_values_become_the_text_that_a_backend_file_holds() -> None:
    parsed = parse_snapshot(
        snapshot('"backend_config": {"bucket": "b", "encrypt": true, "retries": 3, "flag": "true"}')
    )
    assert parsed.backend_config == {
        "bucket": "b",
        "encrypt": "true",
        "retries": "3",
        "flag": "true",
    }


@pytest.mark.parametrize("fields", ['"backend_config": null', '"x": 1'])
def test_no_backend_settings_are_an_empty_mapping(fields: str) -> None:
    assert parse_snapshot(snapshot(fields)).backend_config == {}


def test_numbers_of_a_backend_are_written_as_they_arrived() -> None:
    parsed = parse_snapshot(snapshot('"backend_config": {"a": 1.10, "b": 9007199254740993}'))
    assert parsed.backend_config == {"a": "1.10", "b": "9007199254740993"}


def test_the_variables_are_passed_on_as_the_very_text_that_arrived() -> None:
    variables = '{ "b" :\t[ 1e2 , {"c":"\\u00e9"} ],\n"a": "}, \\"terraform_vars\\": {" }'
    text = f' {{ "meta" : {{"terraform_vars": 1}} , {TEMPLATE},"terraform_vars"\n: {variables}}} '
    assert parse_snapshot(text).terraform_vars_json == variables


def test_every_key_but_the_template_may_be_null() -> None:
    names = ["terraform_vars", "sensitive", "backend_config", "timeouts", "cost_estimate", "meta"]
    nulls = ", ".join(f'"{name}": null' for name in names)
    assert parse_snapshot(snapshot(nulls)) == parse_snapshot(f"{{{TEMPLATE}}}")


def test_time_limits_are_seconds_and_each_may_be_left_out() -> None:
    text = snapshot('"timeouts": {"plan_s": 90, "provision_s": 1.5e3, "later_s": "unknown"}')
    assert parse_snapshot(text).timeouts == Timeouts(plan_s=90.0, provision_s=1500.0)


@pytest.mark.parametrize("value", ["0", "-1", "1e999", '"60"', "true", "[]", "NaN"])
def test_a_time_limit_that_is_no_time_is_refused_by_its_path(value: str) -> None:
    message = refusal(snapshot(f'"timeouts": {{"apply_s": {value}}}'))
    assert "config_snapshot.timeouts.apply_s: must be a number of seconds" in message or (
        value == "NaN" and "NaN is no number of JSON" in message
    )


@pytest.mark.parametrize(("value", "wanted"), [("true", True), ("false", False)])
def test_a_cost_estimate_is_asked_for_or_not(value: str, wanted: bool) -> None:
    assert parse_snapshot(snapshot(f'"cost_estimate": {value}')).cost_estimate is wanted


# --- what must not be seen ------------------------------------------------------------------------


def test_sensitive_names_are_a_set() -> None:
    text = snapshot('"sensitive": ["a", "b", "a"], "terraform_vars": {"a": 1, "b": 2, "c": 3}')
    assert parse_snapshot(text).sensitive == frozenset({"a", "b"})


def test_a_sensitive_name_that_hides_nothing_is_refused() -> None:
    message = refusal(snapshot('"sensitive": ["pasword"], "terraform_vars": {"password": "x"}'))
    assert "config_snapshot.sensitive names 'pasword', which is not among terraform_vars" in message


def test_every_text_and_number_in_a_sensitive_variable_is_a_secret() -> None:
    variables = (
        '{"key": "caf\\u00e9", "pins": [1234, 1.10, 2e3, 9007199254740993, true, null],'
        ' "tree": {"name": {"deep": "x"}}, "open": "not secret"}'
    )
    names = '"sensitive": ["key", "pins", "tree"]'
    parsed = parse_snapshot(snapshot(f'"terraform_vars": {variables}, {names}'))
    assert parsed.sensitive_values() == {
        *("café", "1234", "1.10", "1.1", "2e3", "2000", "9007199254740993", "x"),
    }


@pytest.mark.parametrize("number", ["1e400", "1e401", "1e99999999999999999999", "9" * 5000])
def test_a_secret_number_of_any_size_is_one_of_the_secrets(number: str) -> None:
    text = snapshot(f'"terraform_vars": {{"a": {number}}}, "sensitive": ["a"]')
    assert number in parse_snapshot(text).sensitive_values()


def test_a_snapshot_shows_no_values_when_it_is_printed() -> None:
    text = snapshot('"terraform_vars": {"a": "hunter22"}, "backend_config": {"token": "hunter23"}')
    assert "hunter2" not in repr(parse_snapshot(text))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{}", "config_snapshot.template_source"),
        ('{"template_source": {"version": "v"}}', "config_snapshot.template_source.repo"),
        (
            '{"template_source": {"repo": "r", "version": ""}}',
            "config_snapshot.template_source.version",
        ),
        (
            '{"template_source": {"repo": 1, "version": "v"}}',
            "config_snapshot.template_source.repo",
        ),
        (snapshot('"terraform_vars": []'), "config_snapshot.terraform_vars"),
        (snapshot('"terraform_vars": {"a b": 1}'), "'a b' is not the name of a Terraform variable"),
        (snapshot('"terraform_vars": {"-var": 1}'), "'-var' is not the name"),
        (snapshot('"terraform_vars": {"": 1}'), "'' is not the name"),
        (snapshot('"sensitive": [1]'), "config_snapshot.sensitive.0"),
        (snapshot('"backend_config": {"a": []}'), "config_snapshot.backend_config.a"),
        (
            snapshot('"backend_config": {"assume_role": {"role_arn": "x"}}'),
            "config_snapshot.backend_config.assume_role: must be text, a number, true or false",
        ),
        (snapshot('"backend_config": {"a = 1\\nb": "x"}'), "is not the name of a Terraform"),
        (snapshot('"cost_estimate": "yes"'), "config_snapshot.cost_estimate"),
        (snapshot('"timeouts": 60'), "config_snapshot.timeouts"),
        (snapshot('"terraform_vars": {"a": 1, "a": 2}'), "the key 'a' stands twice"),
        (snapshot(TEMPLATE), "the key 'template_source' stands twice"),
        (snapshot('"terraform_vars": {"a": "\\ud800"}'), "surrogates not allowed"),
        (snapshot('"terraform_vars": {"a": "' + "x" * 5_000_000 + '"}'), "more than 4194304"),
        ("[1]", "config_snapshot must be a JSON object"),
        ("{", "not JSON"),
        (snapshot('"terraform_vars": {"a": NaN}'), "not JSON"),
    ],
)
def test_a_malformed_snapshot_is_refused_by_the_name_of_its_field(text: str, named: str) -> None:
    assert named in refusal(text)


def test_a_refusal_says_what_to_do() -> None:
    assert refusal("{}") == (
        "the provision's configuration is malformed: config_snapshot.template_source: Field "
        "required. Correct it and submit it again"
    )


def test_a_refusal_does_not_repeat_the_values_of_a_snapshot() -> None:
    message = refusal(snapshot('"sensitive": "hunter22", "backend_config": ["hunter22"]'))
    assert "hunter22" not in message


@pytest.mark.parametrize("read", [parse_snapshot, snapshot_hash])
@pytest.mark.parametrize("depth", [65, 5_000, 100_000])
def test_a_snapshot_nested_beyond_reason_is_malformed(
    read: Callable[[str], object], depth: int
) -> None:
    text = snapshot(f'"terraform_vars": {{"a": {"[" * depth}{"]" * depth}}}')
    with pytest.raises(SnapshotError, match="nested more than 64 deep"):
        read(text)


def test_what_terraform_can_nest_is_not_too_deep() -> None:
    variables = f'{{"a": {"[" * 60}{"]" * 60}}}'
    text = snapshot(f'"terraform_vars": {variables}')
    assert parse_snapshot(text).terraform_vars_json == variables
    assert snapshot_hash(text)


SHAPED = st.fixed_dictionaries(
    {"template_source": st.just({"repo": "r", "version": "v"}) | JSON},
    optional={
        "terraform_vars": st.dictionaries(st.sampled_from(["a", "b", "é"]), JSON, max_size=3),
        "sensitive": st.lists(st.sampled_from(["a", "b", "c"]), max_size=2) | JSON,
        "backend_config": st.dictionaries(st.sampled_from(["x", "y"]), JSON, max_size=2) | JSON,
        "timeouts": st.dictionaries(st.sampled_from(["plan_s", "z"]), JSON, max_size=2) | JSON,
        "cost_estimate": JSON,
    },
)


def _answers(text: str) -> None:
    """Read *text* in every way; anything but a SnapshotError fails the test."""
    with suppress(SnapshotError):
        snapshot_hash(text)
    with suppress(SnapshotError):
        parsed = parse_snapshot(text)
        assert isinstance(json.loads(parsed.terraform_vars_json, parse_int=str), dict)
        assert all(isinstance(secret, str) for secret in parsed.sensitive_values())


@given(st.text())
def test_any_text_is_either_a_snapshot_or_a_snapshot_error(text: str) -> None:
    _answers(text)


@given(SHAPED, st.booleans())
def test_anything_in_the_shape_of_a_snapshot_is_read_or_refused(
    value: dict[str, object], ascii_only: bool
) -> None:
    _answers(json.dumps(value, ensure_ascii=ascii_only))


@given(SHAPED, st.data())
def test_a_damaged_snapshot_is_read_or_refused(
    value: dict[str, object], data: st.DataObject
) -> None:
    text = json.dumps(value)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    _answers(text[:start] + data.draw(st.text('{}[]",:\\ue1-.0 \t', max_size=5)) + text[end:])


@given(JSON)
def test_any_json_is_either_a_snapshot_or_a_snapshot_error(value: object) -> None:
    with suppress(SnapshotError):
        parse_snapshot(json.dumps(value))


# --- configuration_hash ---------------------------------------------------------------------------


def test_the_hash_is_the_sha256_of_the_canonical_form() -> None:
    # RFC 8785, section 3.2.2: sorted keys, shortest numbers, no spaces, text as it is.
    canonical = '{"a":[1,0.000001,1e+21,true,null],"b":"€\\n","ä":"x"}'
    text = '{ "ä":"x", "b" : "\\u20ac\\n", "a":[1.0, 1e-6, 1E21, true, null] }'
    assert snapshot_hash(text) == hashlib.sha256(canonical.encode()).hexdigest()


def test_reordered_keys_and_spaces_hash_the_same() -> None:
    # jsonb hands back other orders and spaces than the submitter wrote.
    written = '{"template_source":{"version":"v1","repo":"r"},"terraform_vars":{"bb":1,"a":2}}'
    stored = (
        '{"terraform_vars": {"a": 2, "bb": 1}, "template_source": {"repo": "r", "version": "v1"}}'
    )
    assert snapshot_hash(written) == snapshot_hash(stored)
    check_hash(stored, snapshot_hash(written), required=True)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_no_order_of_keys_changes_the_hash(value: dict[str, object]) -> None:
    def hash_of(item: dict[str, object]) -> str:
        try:
            return snapshot_hash(json.dumps(item))
        except SnapshotError as refused:
            return str(refused).partition(" is an integer")[2]

    assert hash_of(value) == hash_of(dict(reversed(value.items())))


def test_a_changed_value_is_refused_with_both_hashes() -> None:
    claimed = snapshot_hash('{"a": 1}')
    with pytest.raises(SnapshotError) as refused:
        check_hash('{"a": 2}', claimed, required=False)
    assert claimed in str(refused.value)
    assert snapshot_hash('{"a": 2}') in str(refused.value)


def test_a_hash_in_upper_case_is_the_same_hash() -> None:
    check_hash('{"a": 1}', snapshot_hash('{"a": 1}').upper(), required=True)


def test_a_missing_hash_passes_unless_one_is_required() -> None:
    check_hash("{}", None, required=False)
    with pytest.raises(SnapshotError, match="TENDRIL_REQUIRE_CONFIGURATION_HASH"):
        check_hash("{}", None, required=True)


def test_an_empty_hash_is_not_a_missing_one() -> None:
    with pytest.raises(SnapshotError):
        check_hash("{}", "", required=False)


@pytest.mark.parametrize("number", ["9007199254740992", "-9007199254740992", TWENTY_THREE_DIGITS])
def test_an_integer_that_no_hash_can_cover_is_refused_by_its_path(number: str) -> None:
    with pytest.raises(SnapshotError) as refused:
        snapshot_hash(f'{{"terraform_vars": {{"a": [0, {{"b": {number}}}]}}}}')
    assert "config_snapshot.terraform_vars.a[1].b " in str(refused.value)


@pytest.mark.parametrize("number", ["9007199254740991", "-9007199254740991"])
def test_the_widest_integers_of_rfc_8785_are_hashed(number: str) -> None:
    expected = hashlib.sha256(f'{{"a":{number}}}'.encode()).hexdigest()
    assert snapshot_hash(f'{{"a": {number}}}') == expected


@pytest.mark.parametrize("text", ["{", '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": 1, "a": 1}'])
def test_what_has_no_canonical_form_is_a_snapshot_error(text: str) -> None:
    with pytest.raises(SnapshotError):
        snapshot_hash(text)
