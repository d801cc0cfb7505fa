"""JSON to the model and back: every digit kept, nothing believed unchecked."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.control import wire
from tendril_rt.errors import Unavailable
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

AGENT = AgentId("11111111-1111-4111-8111-111111111111")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


# --- answers --------------------------------------------------------------------------------------

ROW = {
    "id": "p1",
    "cluster_id": "c1",
    "attempt": 2,
    "operation": "DESTROY",
    "stack_key": "s1",
    "configuration_hash": None,
    "signature": None,
    "config_snapshot": '{"a": 9007199254740993}',
}


def test_a_claimed_row_becomes_a_provision_under_the_lease_of_this_agent() -> None:
    provision = wire.provision_of([ROW], AGENT)
    assert provision is not None
    assert provision.lease == Lease(ProvisionId("p1"), 2, AGENT)
    assert provision.operation is Operation.DESTROY
    assert provision.snapshot_json == '{"a": 9007199254740993}'
    assert provision.configuration_hash is None


@pytest.mark.parametrize(
    ("started_at", "queued_s"),
    [
        ("2026-11-21T10:00:02.500000+00:00", 2.5),
        ("2026-11-21T12:00:00+02:00", 0.0),
        (None, None),
    ],
)
def test_how_long_a_provision_waited_is_told_by_the_control_planes_clock_alone(
    started_at: str | None, queued_s: float | None
) -> None:
    row = {**ROW, "created_at": "2026-11-21T10:00:00+00:00", "started_at": started_at}
    provision = wire.provision_of([row], AGENT)
    assert provision is not None
    assert provision.queued_s == queued_s


def test_times_that_are_none_are_not_ours() -> None:
    row = {**ROW, "created_at": "yesterday", "started_at": "today"}
    with pytest.raises(Unavailable):
        wire.provision_of([row], AGENT)


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
