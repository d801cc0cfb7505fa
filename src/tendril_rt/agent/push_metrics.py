"""Figures of intake and listener: what led to claims, and how well push works.

A part of ``metrics.py``, fed by the events of ``control/push.py``. Reasons are free text, so they
stay in the log.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tendril_rt.control import push

_LATENCY_S = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300, 1800)


class PushMetrics:
    """What led to claims, and how well push works."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._claims = Counter(
            "tendril_claims", "Provisions claimed, by what led to it", ["cause"], registry=registry
        )
        self._dispatch = Histogram(
            "tendril_dispatch_latency_seconds",
            "From a provision's becoming claimable to its claim, by the control plane's clock",
            ["cause"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self._announced = Counter(
            "tendril_push_heard", "Announcements heard", ["path"], registry=registry
        )
        self._latency = Histogram(
            "tendril_push_latency_seconds",
            "From what happened to hearing of it",
            ["path"],
            buckets=_LATENCY_S,
            registry=registry,
        )
        self._missed = Counter(
            "tendril_push_missed",
            "Announcements that should have come",
            ["path"],
            registry=registry,
        )
        self._deaf = Gauge(
            "tendril_push_deaf", "1 while a path delivers nothing", ["path"], registry=registry
        )
        self._cures = Counter(
            "tendril_push_cures", "Deaf paths kicked", ["path", "cure"], registry=registry
        )
        self._state = Gauge(
            "tendril_realtime_state", "1 for the listener's state", ["state"], registry=registry
        )
        self._changes = Counter(
            "tendril_realtime_changes", "States entered", ["state"], registry=registry
        )
        for cause in push.Cause:
            self._claims.labels(cause)
            self._dispatch.labels(cause)
        for path in push.Path:
            for metric in (self._announced, self._latency, self._missed, self._deaf):
                metric.labels(path)
            for cure in push.Cure:
                self._cures.labels(path, cure.name.lower())
        for state in push.State:
            self._state.labels(state)
            self._changes.labels(state)

    def observe(self, event: object) -> None:
        """Count *event*; what it does not know it leaves alone."""
        match event:
            case push.Claimed():
                self._claims.labels(event.cause).inc()
                if event.queued_s is not None:
                    self._dispatch.labels(event.cause).observe(event.queued_s)
            case push.Announced():
                self._announced.labels(event.path).inc()
                if event.latency_s is not None:
                    self._latency.labels(event.path).observe(event.latency_s)
            case push.PushMissed():
                self._missed.labels(event.path).inc()
            case push.PathDeaf() | push.PathHealed():
                self._deaf.labels(event.path).set(isinstance(event, push.PathDeaf))
            case push.CureTried():
                self._cures.labels(event.path, event.cure.name.lower()).inc()
            case push.StateChanged():
                self._changes.labels(event.state).inc()
                for state in push.State:
                    self._state.labels(state).set(state is event.state)
            case _:
                pass
