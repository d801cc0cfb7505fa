"""JSON to the model and back: every digit kept, nothing believed unchecked."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.control import wire
from tendril_rt.errors import SnapshotError, Unavailable
from tendril_rt.model import (
    Ack,
    AgentId,
    Cancel,
    Chunk,
    HeartbeatAnswer,
    Lease,
    LeaseState,
    Operation,
    ProvisionId,
    RealtimeToken,
    StreamType,
)

TEMPLATE = '"template_source": {"repo": "https://example.com/t.git", "version": "v1"}'
AGENT = AgentId("11111111-1111-4111-8111-111111111111")
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


# --- config_snapshot ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number",
    ["9007199254740993", "-9007199254740993", TWENTY_THREE_DIGITS, "18446744073709551616"],
)
def test_an_integer_reaches_terraform_exactly_as_written(number: str) -> None:
    parsed = wire.parse_snapshot(snapshot(f'"terraform_vars": {{"a": {number}}}'))
    assert parsed.terraform_vars_json == f'{{"a": {number}}}'


@pytest.mark.parametrize("number", ["0.1234567890123456789012345", "1.10", "100.0", "1E+400"])
def test_a_fraction_reaches_terraform_exactly_as_written(number: str) -> None:
    parsed = wire.parse_snapshot(snapshot(f'"terraform_vars": {{"a": [{number}]}}'))
    assert parsed.terraform_vars_json == f'{{"a": [{number}]}}'


@given(st.integers(-(10**40), 10**40))
def test_every_integer_survives_however_deep_it_lies(number: int) -> None:
    parsed = wire.parse_snapshot(snapshot(f'"terraform_vars": {{"a": {{"b": [{number}]}}}}'))
    assert json.loads(parsed.terraform_vars_json) == {"a": {"b": [number]}}


@pytest.mark.parametrize("fields", ['"terraform_vars": null', '"terraform_vars": {}', '"x": 1'])
def test_no_variables_are_an_empty_object_and_never_null(fields: str) -> None:
    assert wire.parse_snapshot(snapshot(fields)).terraform_vars_json == "{}"


def test_text_of_any_script_survives_in_variables() -> None:
    parsed = wire.parse_snapshot(snapshot('"terraform_vars": {"a": "žluťoučký \\"kůň\\" 🐴\\n"}'))
    assert json.loads(parsed.terraform_vars_json) == {"a": 'žluťoučký "kůň" 🐴\n'}


def test_the_template_is_read_and_its_path_may_be_left_out() -> None:
    source = wire.parse_snapshot(snapshot('"x": 1')).template
    assert (source.repo, source.version, source.path) == ("https://example.com/t.git", "v1", "")


def test_unknown_keys_are_ignored_wherever_they_are() -> None:
    text = (
        '{"template_source": {"repo": "r", "version": "v", "path": "p", "new": 1},'
        ' "meta": {"reason": "x"}, "newer": []}'
    )
    assert wire.parse_snapshot(text).template.path == "p"


def test_backend_values_become_the_text_that_a_backend_file_holds() -> None:
    parsed = wire.parse_snapshot(
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
    assert wire.parse_snapshot(snapshot(fields)).backend_config == {}


def test_sensitive_names_are_a_set() -> None:
    parsed = wire.parse_snapshot(snapshot('"sensitive": ["a", "b", "a"]'))
    assert parsed.sensitive == frozenset({"a", "b"})


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
        ("[1]", "config_snapshot"),
        ("{", "not JSON"),
        (snapshot('"terraform_vars": {"a": NaN}'), "not JSON"),
    ],
)
def test_a_malformed_snapshot_is_refused_by_the_name_of_its_field(text: str, named: str) -> None:
    with pytest.raises(SnapshotError) as refused:
        wire.parse_snapshot(text)
    assert named in str(refused.value)


def test_a_refusal_does_not_repeat_the_values_of_a_snapshot() -> None:
    with pytest.raises(SnapshotError) as refused:
        wire.parse_snapshot(snapshot('"sensitive": "hunter22", "backend_config": ["hunter22"]'))
    assert "hunter22" not in str(refused.value)


DEEP = snapshot('"terraform_vars": {"a": ' + "[" * 5_000 + "]" * 5_000 + "}")


@pytest.mark.parametrize("read", [wire.parse_snapshot, wire.snapshot_hash])
def test_a_snapshot_nested_beyond_reason_is_malformed(read: Callable[[str], object]) -> None:
    with pytest.raises(SnapshotError):
        read(DEEP)


@given(JSON)
def test_any_json_is_either_a_snapshot_or_a_snapshot_error(value: object) -> None:
    with suppress(SnapshotError):
        wire.parse_snapshot(json.dumps(value))


# --- configuration_hash ---------------------------------------------------------------------------


def test_the_hash_is_the_sha256_of_the_canonical_form() -> None:
    # RFC 8785, section 3.2.2: sorted keys, shortest numbers, no spaces, text as it is.
    canonical = '{"a":[1,0.000001,1e+21,true,null],"b":"€\\n","ä":"x"}'
    text = '{ "ä":"x", "b" : "\\u20ac\\n", "a":[1.0, 1e-6, 1E21, true, null] }'
    assert wire.snapshot_hash(text) == hashlib.sha256(canonical.encode()).hexdigest()


def test_reordered_keys_and_spaces_hash_the_same() -> None:
    # jsonb hands back other orders and spaces than the submitter wrote.
    written = '{"template_source":{"version":"v1","repo":"r"},"terraform_vars":{"bb":1,"a":2}}'
    stored = (
        '{"terraform_vars": {"a": 2, "bb": 1}, "template_source": {"repo": "r", "version": "v1"}}'
    )
    assert wire.snapshot_hash(written) == wire.snapshot_hash(stored)
    wire.check_hash(stored, wire.snapshot_hash(written), required=True)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_no_order_of_keys_changes_the_hash(value: dict[str, object]) -> None:
    def hash_of(item: dict[str, object]) -> str:
        try:
            return wire.snapshot_hash(json.dumps(item))
        except SnapshotError as refused:
            return str(refused).partition(" is an integer")[2]

    assert hash_of(value) == hash_of(dict(reversed(value.items())))


def test_a_changed_value_is_refused_with_both_hashes() -> None:
    claimed = wire.snapshot_hash('{"a": 1}')
    with pytest.raises(SnapshotError) as refused:
        wire.check_hash('{"a": 2}', claimed, required=False)
    assert claimed in str(refused.value)
    assert wire.snapshot_hash('{"a": 2}') in str(refused.value)


def test_a_hash_in_upper_case_is_the_same_hash() -> None:
    wire.check_hash('{"a": 1}', wire.snapshot_hash('{"a": 1}').upper(), required=True)


def test_a_missing_hash_passes_unless_one_is_required() -> None:
    wire.check_hash("{}", None, required=False)
    with pytest.raises(SnapshotError, match="TENDRIL_REQUIRE_CONFIGURATION_HASH"):
        wire.check_hash("{}", None, required=True)


def test_an_empty_hash_is_not_a_missing_one() -> None:
    with pytest.raises(SnapshotError):
        wire.check_hash("{}", "", required=False)


@pytest.mark.parametrize("number", ["9007199254740992", "-9007199254740992", TWENTY_THREE_DIGITS])
def test_an_integer_that_no_hash_can_cover_is_refused_by_its_path(number: str) -> None:
    with pytest.raises(SnapshotError) as refused:
        wire.snapshot_hash(f'{{"terraform_vars": {{"a": [0, {{"b": {number}}}]}}}}')
    assert "config_snapshot.terraform_vars.a[1].b " in str(refused.value)


@pytest.mark.parametrize("number", ["9007199254740991", "-9007199254740991"])
def test_the_widest_integers_of_rfc_8785_are_hashed(number: str) -> None:
    expected = hashlib.sha256(f'{{"a":{number}}}'.encode()).hexdigest()
    assert wire.snapshot_hash(f'{{"a": {number}}}') == expected


@pytest.mark.parametrize("text", ["{", '{"a": 1e999}', '{"a": "\\ud800"}'])
def test_what_has_no_canonical_form_is_a_snapshot_error(text: str) -> None:
    with pytest.raises(SnapshotError):
        wire.snapshot_hash(text)


# --- answers --------------------------------------------------------------------------------------

ROW = {
    "id": "p1",
    "cluster_id": "c1",
    "attempt": 2,
    "operation": "DESTROY",
    "stack_key": "s1",
    "configuration_hash": None,
    "config_snapshot": '{"a": 9007199254740993}',
}


def test_a_claimed_row_becomes_a_provision_under_the_lease_of_this_agent() -> None:
    provision = wire.provision_of([ROW], AGENT)
    assert provision is not None
    assert provision.lease == Lease(ProvisionId("p1"), 2, AGENT)
    assert provision.operation is Operation.DESTROY
    assert provision.snapshot_json == '{"a": 9007199254740993}'
    assert provision.configuration_hash is None


def test_an_empty_queue_is_no_provision() -> None:
    assert wire.provision_of([], AGENT) is None


def test_two_rows_are_not_an_answer_to_a_claim() -> None:
    with pytest.raises(Unavailable, match="fetch_next_provision"):
        wire.provision_of([ROW, ROW], AGENT)


def test_an_object_of_nulls_is_not_a_claimed_row() -> None:
    with pytest.raises(Unavailable):
        wire.provision_of([dict.fromkeys(ROW)], AGENT)


@pytest.mark.parametrize("missing", sorted(ROW))
def test_a_row_without_one_of_its_columns_is_not_ours(missing: str) -> None:
    with pytest.raises(Unavailable):
        wire.provision_of([{k: v for k, v in ROW.items() if k != missing}], AGENT)


@pytest.mark.parametrize(
    ("column", "value"), [("config_snapshot", {"a": 1}), ("stack_key", None), ("id", None)]
)
def test_a_column_that_should_be_text_and_is_not_is_refused(column: str, value: object) -> None:
    with pytest.raises(Unavailable):
        wire.provision_of([{**ROW, column: value}], AGENT)


def test_a_heartbeat_says_of_each_lease_whether_it_is_held() -> None:
    answer = wire.heartbeat_answer_of(
        {
            "leases": [
                {"provision_id": "p1", "held": True, "cancel": "graceful"},
                {"provision_id": "p2", "held": False, "cancel": "none"},
            ],
            "drain": True,
            "lease_ttl_s": 90,
            "server_time": "ignored",
        }
    )
    assert answer == HeartbeatAnswer(
        {
            ProvisionId("p1"): LeaseState(held=True, cancel=Cancel.GRACEFUL),
            ProvisionId("p2"): LeaseState(held=False, cancel=Cancel.NONE),
        },
        drain=True,
        lease_ttl_s=90.0,
    )


@pytest.mark.parametrize("held", [None, "true", 1])
def test_only_true_holds_a_lease(held: object) -> None:
    answer = wire.heartbeat_answer_of(
        {
            "leases": [{"provision_id": "p1", "held": held, "cancel": "none"}],
            "drain": False,
            "lease_ttl_s": 90,
        }
    )
    assert not answer.leases[ProvisionId("p1")].held


def test_a_log_insert_answers_with_the_next_number() -> None:
    assert wire.ack_of({"next_seq": 7, "accepted": False, "cancel": "force"}) == Ack(
        7, accepted=False, cancel=Cancel.FORCE
    )


def test_a_realtime_token_may_be_absent() -> None:
    assert wire.realtime_token_of(None) is None
    assert wire.realtime_token_of({"token": "t", "expires_in_s": 3600}) == RealtimeToken("t", 3600)


def test_a_realtime_token_is_never_repeated_in_an_error() -> None:
    with pytest.raises(Unavailable) as refused:
        wire.realtime_token_of({"token": "very-secret"})
    assert "very-secret" not in str(refused.value)


@pytest.mark.parametrize(
    "read",
    [
        lambda answer: wire.provision_of(answer, AGENT),
        lambda answer: wire.provision_of([answer], AGENT),
        wire.heartbeat_answer_of,
        wire.ack_of,
        wire.realtime_token_of,
    ],
    ids=["claim", "claimed row", "heartbeat", "log insert", "token"],
)
@given(answer=JSON)
def test_an_answer_of_another_shape_is_unavailable_and_never_a_crash(
    read: Callable[[object], object], answer: object
) -> None:
    with suppress(Unavailable):
        read(answer)


@pytest.mark.parametrize("page", ["<html>502</html>", ["x"], 3, None, {"message": "hello"}])
def test_a_page_of_a_proxy_is_unavailable(page: object) -> None:
    for read in (wire.heartbeat_answer_of, wire.ack_of):
        with pytest.raises(Unavailable, match="SUPABASE_URL"):
            read(page)


def test_chunks_travel_as_stream_offset_and_text() -> None:
    chunks = [
        Chunk(0, 0, StreamType.STDOUT, "é\n"),
        Chunk(1, 3, StreamType.SYSTEM, "done\n"),
    ]
    assert wire.chunks_json(chunks) == [
        {"s": "STDOUT", "o": 0, "t": "é\n"},
        {"s": "SYSTEM", "o": 3, "t": "done\n"},
    ]
