"""Metrics: fed by events, bounded in their labels, and documented."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tendril_rt.agent.events import (
    AttemptBegan,
    AttemptEnded,
    LogDelivered,
    LogLost,
    RpcEnded,
    RpcResult,
    StepEnded,
)
from tendril_rt.agent.metrics import Metrics, Places
from tendril_rt.agent.vitals import Vitals
from tendril_rt.control import push
from tendril_rt.control.push import Cause, Claimed, Cure, Kind, State
from tendril_rt.model import AgentId, Lease, ProvisionId, Status

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
LEASE = Lease(ProvisionId("the-id"), 1, AgentId("a1"))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    spool = tmp_path / "state" / "spool"
    spool.mkdir(parents=True)
    return Places(tmp_path / "state", tmp_path / "none-yet", spool)


@pytest.fixture
def metrics(places: Places) -> Metrics:
    return Metrics(Vitals(lambda: 5.0), places, capacity=3, terraform="Terraform v1.11.4")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_call_counts_by_its_name_and_result(metrics: Metrics) -> None:
    metrics.observe(RpcEnded("heartbeat", RpcResult.OK, 0.02))
    metrics.observe(RpcEnded("heartbeat", RpcResult.UNAVAILABLE, 10.0))
    assert value(metrics, "tendril_rpcs_total", rpc="heartbeat", result="ok") == 1
    assert value(metrics, "tendril_rpcs_total", rpc="heartbeat", result="unavailable") == 1
    assert value(metrics, "tendril_rpc_duration_seconds_sum", rpc="heartbeat") == 10.02


def test_a_provision_is_running_between_its_beginning_and_its_end(metrics: Metrics) -> None:
    metrics.observe(AttemptBegan(LEASE))
    assert value(metrics, "tendril_provisions_running") == 1
    metrics.observe(AttemptEnded(LEASE, Status.SUCCESS))
    assert value(metrics, "tendril_provisions_running") == 0
    assert value(metrics, "tendril_provisions_total", outcome="success") == 1


def claimed(cause: Cause, queued_s: float | None) -> Claimed:
    return Claimed(LEASE.provision_id, LEASE.attempt, cause, 5.0, queued_s)


def test_a_claim_counts_by_its_cause_and_its_wait_where_that_is_known(metrics: Metrics) -> None:
    metrics.observe(claimed(Cause.PUSH, 0.3))
    metrics.observe(claimed(Cause.POLL, None))
    assert value(metrics, "tendril_claims_total", cause="push") == 1
    assert value(metrics, "tendril_claims_total", cause="poll") == 1
    assert value(metrics, "tendril_dispatch_latency_seconds_sum", cause="push") == 0.3
    assert value(metrics, "tendril_dispatch_latency_seconds_count", cause="poll") == 0


def test_push_counts_what_was_heard_missed_and_cured_by_path(metrics: Metrics) -> None:
    path = push.Path.BROADCAST
    metrics.observe(push.Announced(path, Kind.PULSE, latency_s=0.04))
    metrics.observe(push.PushMissed(path, "the pulse of a heartbeat"))
    metrics.observe(push.PathDeaf(path))
    metrics.observe(push.CureTried(path, Cure.TOKEN, 1))
    assert value(metrics, "tendril_push_heard_total", path=path) == 1
    assert value(metrics, "tendril_push_latency_seconds_sum", path=path) == 0.04
    assert value(metrics, "tendril_push_missed_total", path=path) == 1
    assert value(metrics, "tendril_push_cures_total", path=path, cure="token") == 1
    assert value(metrics, "tendril_push_deaf", path=path) == 1
    metrics.observe(push.PathHealed(path, 1))
    assert value(metrics, "tendril_push_deaf", path=path) == 0
    assert value(metrics, "tendril_push_missed_total", path=push.Path.CHANGES) == 0


def test_the_listener_is_in_one_state_at_a_time(metrics: Metrics) -> None:
    for state in (State.CONNECTING, State.BACKOFF, State.READY):
        metrics.observe(push.StateChanged(state, "any text", 1))
    assert [value(metrics, "tendril_realtime_state", state=state) for state in State] == [
        float(state is State.READY) for state in State
    ]
    assert value(metrics, "tendril_realtime_changes_total", state="BACKOFF") == 1
    assert "any text" not in metrics.render().decode()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(Status.FAILED, "failed"), (Status.CANCELLED, "cancelled"), (None, "left")],
)
def test_an_end_counts_by_its_outcome(
    metrics: Metrics, status: Status | None, outcome: str
) -> None:
    metrics.observe(AttemptEnded(LEASE, status))
    assert value(metrics, "tendril_provisions_total", outcome=outcome) == 1


def test_logs_and_steps_are_counted(metrics: Metrics) -> None:
    metrics.observe(LogDelivered(3, 900))
    metrics.observe(LogLost(50))
    metrics.observe(StepEnded("plan", 0, 12.5))
    assert value(metrics, "tendril_log_delivered_chunks_total") == 3
    assert value(metrics, "tendril_log_delivered_bytes_total") == 900
    assert value(metrics, "tendril_log_lost_bytes_total") == 50
    assert value(metrics, "tendril_step_duration_seconds_sum", step="plan") == 12.5


def test_what_is_no_event_of_ours_is_left_alone(metrics: Metrics) -> None:
    before = samples(metrics)
    metrics.observe(object())
    assert samples(metrics) == before


def test_places_are_looked_at_when_somebody_asks(metrics: Metrics, places: Places) -> None:
    assert value(metrics, "tendril_spool_bytes") == 0
    (places.spool_dir / "p1.1.spool").write_bytes(b"x" * 1234)
    (places.spool_dir / "p2.1").mkdir()
    (places.spool_dir / "p2.1" / "0").write_bytes(b"x" * 1000)
    assert value(metrics, "tendril_spool_bytes") == 2234
    assert value(metrics, "tendril_disk_free_bytes", place="workspaces") is None
    places.workspace_dir.mkdir()
    assert value(metrics, "tendril_disk_free_bytes", place="workspaces")
    assert value(metrics, "tendril_disk_free_bytes", place="state")


def test_vitals_and_facts_are_shown(places: Places) -> None:
    now = [100.0]
    vitals = Vitals(lambda: now[0])
    metrics = Metrics(vitals, places, capacity=3, terraform="Terraform v1.11.4")
    now[0] += 7
    vitals.tick()
    now[0] += 2
    assert value(metrics, "tendril_heartbeat_age_seconds") == 9
    assert value(metrics, "tendril_loop_age_seconds") == 2
    assert value(metrics, "tendril_draining") == 0
    assert value(metrics, "tendril_provisions_capacity") == 3
    assert (value(metrics, "process_open_fds") or 0) > 2


def test_two_agents_in_one_process_count_apart(places: Places, metrics: Metrics) -> None:
    other = Metrics(Vitals(), places, capacity=1, terraform="x")
    other.observe(LogDelivered(1, 1))
    assert value(metrics, "tendril_log_delivered_chunks_total") == 0


def samples(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series but the machine's, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def test_every_series_is_there_from_the_start_so_that_rates_see_the_first_event(
    metrics: Metrics,
) -> None:
    before = samples(metrics)
    for result in RpcResult:
        for rpc in ("heartbeat", "claim", "append_chunks", "finish", "realtime_token"):
            metrics.observe(RpcEnded(rpc, result, 1.0))
    for cause in Cause:
        metrics.observe(claimed(cause, 1.0))
    for path in push.Path:
        metrics.observe(push.Announced(path, Kind.WAKEUP, latency_s=1.0))
        metrics.observe(push.PushMissed(path, "it"))
        metrics.observe(push.PathDeaf(path))
        for cure in Cure:
            metrics.observe(push.CureTried(path, cure, 1))
    for state in State:
        metrics.observe(push.StateChanged(state, "", 1))
    for status in (Status.SUCCESS, Status.FAILED, Status.CANCELLED, None):
        metrics.observe(AttemptEnded(LEASE, status))
    for step in ("init", "plan", "apply"):
        metrics.observe(StepEnded(step, 0, 1.0))
    assert samples(metrics) == before


def test_no_series_is_named_after_a_provision(metrics: Metrics) -> None:
    metrics.observe(AttemptBegan(LEASE))
    metrics.observe(claimed(Cause.POLL, 1.0))
    assert LEASE.provision_id not in metrics.render().decode()


def test_the_page_of_operations_lists_every_metric_and_no_other(metrics: Metrics) -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, _, rest = text.partition("## Metrics\n")
    table, _, _ = rest.partition("\n## ")
    documented = set(re.findall(r"^\| `((?:tendril|process)_[a-z_]+)", table, re.MULTILINE))
    ours = {family.name for family in metrics.registry.collect()}
    counters = {family.name for family in metrics.registry.collect() if family.type == "counter"}
    assert documented == {f"{name}_total" if name in counters else name for name in ours}


def test_alerts_speak_of_metrics_that_exist(metrics: Metrics) -> None:
    text = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"\btendril_[a-z_]+", text)) - {"tendril_private", "tendril_rt"}
    shown = {name for name, _ in samples(metrics)}
    families = {family.name for family in metrics.registry.collect()}
    assert named <= shown | families
