"""Whatever arrives from outside, or from a file that a template could reach: a value, or the one
error that is foreseen for it.

``make fuzz`` runs the same with many more examples, and with others each time.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.agent.record import AttemptRecord, load_all
from tendril_rt.control import rest, wire
from tendril_rt.errors import ControlPlaneError, Unavailable
from tendril_rt.model import AgentId, Provision, ProvisionId, StreamType
from tendril_rt.runner import infracost, locks, outputs
from tendril_rt.runner.infracost import CostUnknown
from tendril_rt.runner.procfs import Identity
from tendril_rt.runner.summary import Summary

AGENT = AgentId("11111111-1111-4111-8111-111111111111")
PROVISION = ProvisionId("b0000000-0000-4000-8000-000000000001")
DEEP = "[" * 1000 + "]" * 1000  # as deep as orjson reads; deeper than Python prints
ABYSS = "[" * 100_000

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([PROVISION, "..", "/", "\0", 2**63, -1, 1e300, "none", "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def shaped(sample: dict[str, object]) -> st.SearchStrategy[object]:
    """Return what looks like *sample*, but for some of its values, anything; or anything at all."""
    fields = {name: st.just(value) | JSON for name, value in sample.items()}
    return st.fixed_dictionaries({}, optional=fields) | st.fixed_dictionaries(fields) | JSON


def texts(sample: dict[str, object]) -> st.SearchStrategy[str]:
    """Return JSON in the shape of *sample*, whole or cut, and other text."""
    whole = shaped(sample).map(json.dumps)
    cut = st.tuples(whole, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
    return whole | cut | st.text() | st.sampled_from([DEEP, ABYSS, "9" * 5000, '"\\ud800"'])


# --- answers of the control plane ----------------------------------------------------------------

ROW: dict[str, object] = {
    "id": PROVISION,
    "cluster_id": "c1",
    "attempt": 2,
    "operation": "DESTROY",
    "stack_key": "s1",
    "configuration_hash": None,
    "signature": None,
    "config_snapshot": "{}",
    "created_at": "2026-11-21T10:00:00+00:00",
    "started_at": "2026-11-21T10:00:00+00:00",
}
LEASE: dict[str, object] = {"provision_id": PROVISION, "held": True, "cancel": "none"}
BEAT: dict[str, object] = {"leases": [LEASE], "drain": False, "lease_ttl_s": 90}
ACK: dict[str, object] = {"next_seq": 1, "accepted": True, "cancel": "none"}
TOKEN: dict[str, object] = {"token": "t", "expires_in_s": 3600}


def believed(read: Callable[[object], object], answer: object) -> object:
    """Return what *read* makes of *answer*; None where it is refused in the foreseen way."""
    with suppress(Unavailable):
        return read(answer)
    return None


@given(st.lists(shaped(ROW), max_size=2) | JSON)
def test_a_claim_is_a_provision_with_a_name_fit_for_folders_or_unavailable(answer: object) -> None:
    provision = believed(lambda it: wire.provision_of(it, AGENT), answer)

    if isinstance(provision, Provision):
        assert set(provision.lease.provision_id) <= set("0123456789abcdef-")
        assert provision.lease.attempt >= 0


@pytest.mark.parametrize(
    "name", ["../../etc", "..", "", "/", "x", PROVISION.upper(), f"{PROVISION}/..", f" {PROVISION}"]
)
def test_an_id_that_would_lead_out_of_the_workspaces_is_refused(name: str) -> None:
    assert wire.provision_of([ROW], AGENT) is not None
    with pytest.raises(Unavailable, match="fetch_next_provision"):
        wire.provision_of([{**ROW, "id": name}], AGENT)


@given(shaped({**BEAT, "leases": [LEASE, {**LEASE, "provision_id": "of somebody else"}]}))
def test_a_heartbeat_is_read_or_unavailable(answer: object) -> None:
    believed(wire.heartbeat_answer_of, answer)


@given(shaped(LEASE))
def test_what_a_heartbeat_says_of_a_lease_is_read_or_unavailable(lease: object) -> None:
    believed(wire.heartbeat_answer_of, {**BEAT, "leases": [lease]})


@given(shaped(ACK), shaped(TOKEN), JSON)
def test_every_other_answer_is_read_or_unavailable(
    ack: object, token: object, any_: object
) -> None:
    believed(wire.ack_of, ack)
    believed(wire.realtime_token_of, token)
    believed(wire.check_reported, any_)


@pytest.mark.parametrize("seconds", [0, -1, 0.5, "90", True, None, 1e300, float("nan")])
def test_a_duration_that_would_make_a_busy_loop_is_unavailable(seconds: object) -> None:
    with pytest.raises(Unavailable):
        wire.heartbeat_answer_of({**BEAT, "lease_ttl_s": seconds})
    with pytest.raises(Unavailable):
        wire.realtime_token_of({**TOKEN, "expires_in_s": seconds})


@pytest.mark.parametrize("shape", ['{"message": %s}', '{"code": %s}', "%s", '{"status": %s}'])
def test_nesting_that_cannot_be_printed_is_no_crash(shape: str) -> None:
    text = shape % DEEP
    answer = orjson.loads(text)
    for read in (wire.heartbeat_answer_of, wire.ack_of, wire.check_reported):
        with pytest.raises(Unavailable):
            read(answer)
    for status in (400, 401, 409, 503):
        assert isinstance(rest._error_of(status, text.encode()), ControlPlaneError)


@given(
    st.integers(300, 599),
    texts({"code": "PT409", "message": "m", "details": None, "hint": "h"}).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | st.binary(),
)
def test_every_refusal_has_its_class_and_one_line(status: int, body: bytes) -> None:
    assert isinstance(rest._error_of(status, body), ControlPlaneError)


# --- files and streams that a template could reach -----------------------------------------------

STEP: dict[str, object] = {"name": "init", "exit_code": 0, "duration_s": 1.5}
RECORD: dict[str, object] = {
    "format": 1,
    "provision": {
        "lease": {"provision_id": "p", "attempt": 1, "agent_id": "a"},
        "cluster_id": "c",
        "operation": "APPLY",
        "stack_key": "s",
        "snapshot_json": "{}",
        "configuration_hash": None,
        "signature": None,
    },
    "started_at": 1.0,
    "phase": "APPLY",
    "step": "apply",
    "run_root": "/run",
    "root_module": None,
    "steps": [STEP],
    "facts": {},
    "outcome": {"status": "FAILED", "error_message": "m", "error_code": "C"},
}


@pytest.fixture(scope="module")
def record_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attempts") / "p.1.json"


@given(text=texts(RECORD) | texts(RECORD).map(lambda text: text + "\0"))
def test_any_record_is_read_or_refused(record_file: Path, text: str) -> None:
    record_file.write_bytes(text.encode(errors="surrogatepass"))
    with suppress(ValueError, OSError):
        AttemptRecord.load(record_file)


def test_the_record_of_another_attempt_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "q.1.json").write_text(json.dumps(RECORD))

    assert load_all(tmp_path) == []
    assert "another attempt" in caplog.text
    (tmp_path / "q.1.json").rename(tmp_path / "p.1.json")
    assert len(load_all(tmp_path)) == 1


@given(
    st.lists(
        st.binary(max_size=200)
        | st.from_regex(rb"(?:Plan: |No changes\.)[0-9]{1,30} to add, ?.{0,20}\n")
        | st.sampled_from([b"Error: Error acquiring the state lock\n", b"  ID: \0x\n", b"\n"]),
        max_size=12,
    )
)
def test_any_output_of_a_program_can_be_reported(pieces: list[bytes]) -> None:
    summary = Summary()
    for piece in pieces:
        summary.see(StreamType.STDOUT, memoryview(piece))
        summary.see(StreamType.STDERR, memoryview(piece))

    orjson.dumps(summary.resources)  # which refuses integers beyond 64 bits
    assert "\0" not in (summary.lock_block or "")
    locks.parse(summary.lock_block or "")


@given(
    st.from_regex(
        r"ID: x\n(?:Created: [0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} \+0000\n)?"
    )
    | st.text()
)
def test_any_lock_is_read_or_none(block: str) -> None:
    lock = locks.parse(block)
    assert lock is None or lock.id


@given(texts({"name": {"sensitive": False, "value": "x"}, "other": {"sensitive": True}}))
def test_any_outputs_are_read_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        orjson.dumps(dict(outputs.parse(text)))


@given(texts({"totalMonthlyCost": "1.5", "currency": "EUR", "diffTotalMonthlyCost": "-1"}))
def test_any_cost_is_read_or_unknown(text: str) -> None:
    with suppress(CostUnknown):
        cost = infracost.parse(text)
        assert all(str(value).isascii() and str(value).isprintable() for value in cost.values())


@given(st.text() | st.from_regex(r"[0-9]{1,30} \(.{0,9}\)( [0-9xRS]{1,3}){0,30}\n?"))
def test_any_line_of_proc_names_a_process_or_none(stat: str) -> None:
    found = Identity.parse(stat)
    assert found is None or found.pid >= 0
