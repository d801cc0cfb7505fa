"""Signs of life: plain values that the event loop writes and other threads read.

Owns no thread and no socket. Every value is one reference or number, so that a reader in another
thread always sees a whole one; nothing here waits or locks. What they mean is decided here too:
alive (the loop turns), ready (the control plane heard this agent lately, and it takes work).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tendril_rt.agent.events import Draining, RpcEnded, RpcResult

TICK_S = 2.5
STUCK_AFTER_S = 30.0
READY_WITHIN_S = 90.0  # the control plane takes an agent for OFFLINE after so long


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of an endpoint.

    :ivar why: for people, also when all is well
    """

    ok: bool
    why: str
    figures: dict[str, float | bool | None]


class Vitals:
    """See the module.

    :param clock: monotonic seconds, for tests
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started_at = clock()
        self._ticked_at = self._started_at
        self._heard_at: float | None = None
        self.draining = False

    def tick(self) -> None:
        """Say that the event loop turns."""
        self._ticked_at = self._clock()

    def observe(self, event: object) -> None:
        """Take note of accepted heartbeats and of draining."""
        match event:
            case RpcEnded(rpc="heartbeat", result=RpcResult.OK):
                self._heard_at = self._clock() - event.duration_s
            case Draining():
                self.draining = True
            case _:
                pass

    @property
    def loop_age_s(self) -> float:
        """Seconds since the event loop last turned."""
        return self._clock() - self._ticked_at

    @property
    def heartbeat_age_s(self) -> float:
        """Seconds since the last accepted heartbeat was sent, or since the start before it."""
        return self._clock() - (self._started_at if self._heard_at is None else self._heard_at)

    def alive(self) -> Verdict:
        """Judge whether the event loop makes progress; what runs is no matter."""
        age_s = self.loop_age_s
        ok = age_s < STUCK_AFTER_S
        why = "the event loop turns" if ok else f"the event loop has been stuck for {age_s:.0f} s"
        return Verdict(ok, why, {"loop_age_s": round(age_s, 3)})

    def ready(self) -> Verdict:
        """Judge whether new provisions may be expected to run here."""
        age_s = self.heartbeat_age_s
        figures = {
            "heartbeat_age_s": None if self._heard_at is None else round(age_s, 3),
            "draining": self.draining,
        }
        if self.draining:
            return Verdict(False, "draining: claims nothing more", figures)
        if self._heard_at is None:
            return Verdict(False, "no heartbeat was accepted yet; see the agent's log", figures)
        if age_s >= READY_WITHIN_S:
            why = f"the last accepted heartbeat is {age_s:.0f} s old; see the agent's log"
            return Verdict(False, why, figures)
        return Verdict(True, "the control plane hears this agent", figures)
