"""The agent's figures for Prometheus: one registry per agent, fed by events.

Components know nothing of this module: they emit events (``agent/events.py``), and what can be read
from the machine (memory, descriptors, free disk, spool) is read when somebody asks. Every label has
a fixed, small set of values; ids, names and texts of a template are never labels. ``observe`` is
called from the event loop, :meth:`Metrics.render` from another thread. Imported only when the
health port is open. ``docs/operations.md`` lists every metric; a test keeps the two equal.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tendril_rt import __version__
from tendril_rt.agent.events import (
    AttemptBegan,
    AttemptEnded,
    LogDelivered,
    LogLost,
    RpcEnded,
    RpcResult,
    StepEnded,
)
from tendril_rt.agent.push_metrics import PushMetrics
from tendril_rt.agent.vitals import Vitals
from tendril_rt.model import Status

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_RPCS = ("heartbeat", "claim", "append_chunks", "finish", "realtime_token")
_STEPS = ("init", "plan", "apply")
_LEFT = "left"  # to the control plane: fenced out, or the report could not be delivered
_RPC_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_STEP_S = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)


@dataclass(frozen=True, slots=True)
class Places:
    """Where an agent keeps what; looked at whenever somebody asks for metrics."""

    state_dir: Path
    workspace_dir: Path
    spool_dir: Path


class Metrics:
    """The registry and what feeds it.

    :param capacity: provisions run at once
    :param terraform: what Terraform says of its version, for ``tendril_build_info``
    """

    def __init__(self, vitals: Vitals, places: Places, *, capacity: int, terraform: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each: nobody asks for it
        registry = CollectorRegistry()
        self.registry = registry
        self._push = PushMetrics(registry)
        self._ended = Counter(
            "tendril_provisions", "Attempts ended, by outcome", ["outcome"], registry=registry
        )
        self._running = Gauge(
            "tendril_provisions_running", "Attempts running now", registry=registry
        )
        Gauge("tendril_provisions_capacity", "Attempts run at once at most", registry=registry).set(
            capacity
        )
        self._rpcs = Counter(
            "tendril_rpcs", "Calls to the control plane", ["rpc", "result"], registry=registry
        )
        self._rpc_duration = Histogram(
            "tendril_rpc_duration_seconds",
            "How long calls to the control plane took",
            ["rpc"],
            buckets=_RPC_S,
            registry=registry,
        )
        self._log_bytes = Counter(
            "tendril_log_delivered_bytes", "Bytes of log stored", registry=registry
        )
        self._log_chunks = Counter(
            "tendril_log_delivered_chunks", "Chunks of log stored", registry=registry
        )
        self._log_lost = Counter(
            "tendril_log_lost_bytes", "Bytes of log cut by a cap of the spool", registry=registry
        )
        self._steps = Histogram(
            "tendril_step_duration_seconds",
            "How long Terraform's commands took, in attempts that were reported",
            ["step"],
            buckets=_STEP_S,
            registry=registry,
        )
        Gauge("tendril_build_info", "Always 1", ["version", "terraform"], registry=registry).labels(
            __version__, terraform
        ).set(1)
        self._preset()
        registry.register(_Readings(vitals, places))
        ProcessCollector(registry=registry)

    def _preset(self) -> None:
        """Let every series begin at 0: an alert on a rate needs the value before the first one."""
        for outcome in (*filter(lambda status: status.is_terminal, Status), _LEFT):
            self._ended.labels(outcome.lower())
        for rpc in _RPCS:
            for result in RpcResult:
                self._rpcs.labels(rpc, result)
            self._rpc_duration.labels(rpc)
        for step in _STEPS:
            self._steps.labels(step)

    def observe(self, event: object) -> None:
        """Count *event*; what it does not know it leaves alone."""
        match event:
            case RpcEnded():
                self._rpcs.labels(event.rpc, event.result).inc()
                self._rpc_duration.labels(event.rpc).observe(event.duration_s)
            case LogDelivered():
                self._log_bytes.inc(event.size_bytes)
                self._log_chunks.inc(event.chunks)
            case LogLost():
                self._log_lost.inc(event.size_bytes)
            case StepEnded():
                self._steps.labels(event.step).observe(event.duration_s)
            case AttemptBegan():
                self._running.inc()
            case AttemptEnded():
                self._running.dec()
                self._ended.labels((event.status or _LEFT).lower()).inc()
            case _:
                self._push.observe(event)

    def render(self) -> bytes:
        """Return the text that Prometheus reads; any thread may call it."""
        return generate_latest(self.registry)


class _Readings(Collector):
    """What is read when somebody asks."""

    def __init__(self, vitals: Vitals, places: Places) -> None:
        self._vitals = vitals
        self._places = places

    def collect(self) -> Iterator[GaugeMetricFamily]:
        age_s = self._vitals.heartbeat_age_s
        yield GaugeMetricFamily(
            "tendril_heartbeat_age_seconds",
            "Since the last accepted heartbeat was sent; since the start before the first",
            value=age_s,
        )
        yield GaugeMetricFamily(
            "tendril_loop_age_seconds",
            "Since the event loop last turned; below 3 is healthy",
            value=self._vitals.loop_age_s,
        )
        yield GaugeMetricFamily(
            "tendril_draining", "1 while the agent claims nothing more", value=self._vitals.draining
        )
        yield GaugeMetricFamily(
            "tendril_spool_bytes",
            "Bytes in the folder of spools: logs not yet delivered, or kept",
            value=_size_of(self._places.spool_dir),
        )
        free = GaugeMetricFamily(
            "tendril_disk_free_bytes", "Free disk space that this user may fill", labels=["place"]
        )
        for place, folder in (
            ("state", self._places.state_dir),
            ("workspaces", self._places.workspace_dir),
        ):
            if folder.exists():
                free.add_metric([place], shutil.disk_usage(folder).free)
        yield free


def _size_of(folder: Path) -> int:
    """Return the bytes of all files below *folder*; one that vanishes meanwhile counts as none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
