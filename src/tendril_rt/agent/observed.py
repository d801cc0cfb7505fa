"""The control plane as the agent calls it, with every call observed.

Passes arguments, answers and failures through untouched; owns nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import anyio

from tendril_rt.agent.events import LogDelivered, LogLost, Observe, RpcEnded, RpcResult, StepEnded
from tendril_rt.control.client import AgentInfo, ControlPlane
from tendril_rt.errors import ControlPlaneError, Rejected, Unauthorized
from tendril_rt.model import (
    Ack,
    AgentId,
    Chunk,
    ClaimId,
    HeartbeatAnswer,
    Lease,
    Outcome,
    Phase,
    Provision,
    RealtimeToken,
)


class ObservedControl:
    """See the module; the methods and their contracts are those of :class:`ControlPlane`."""

    def __init__(self, control: ControlPlane, observe: Observe) -> None:
        self._control = control
        self._observe = observe

    async def heartbeat(
        self, agent: AgentInfo, leases: Mapping[Lease, Phase], *, is_draining: bool
    ) -> HeartbeatAnswer:
        with self._call("heartbeat"):
            return await self._control.heartbeat(agent, leases, is_draining=is_draining)

    async def claim(self, agent_id: AgentId, claim_id: ClaimId) -> Provision | None:
        with self._call("claim"):
            return await self._control.claim(agent_id, claim_id)

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        with self._call("append_chunks"):
            ack = await self._control.append_chunks(lease, first_seq, chunks)
        stored = chunks[: max(0, ack.next_seq - first_seq)]
        if stored:
            self._observe(LogDelivered(len(stored), _size_of(stored)))
        return ack

    async def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        log_chunks: int,
        metadata: Mapping[str, object],
    ) -> None:
        with self._call("finish"):
            await self._control.finish(lease, outcome, log_chunks=log_chunks, metadata=metadata)
        self._observe_report(metadata)

    async def realtime_token(self) -> RealtimeToken | None:
        with self._call("realtime_token"):
            return await self._control.realtime_token()

    @contextmanager
    def _call(self, rpc: str) -> Iterator[None]:
        """Observe how the call in the block ends; one that is cancelled has no end."""
        started_at = anyio.current_time()
        try:
            yield
        except ControlPlaneError as exc:
            self._observe(RpcEnded(rpc, _result_of(exc), anyio.current_time() - started_at))
            raise
        self._observe(RpcEnded(rpc, RpcResult.OK, anyio.current_time() - started_at))

    def _observe_report(self, metadata: Mapping[str, object]) -> None:
        """Take steps and losses from the report that the owner sees: the two cannot differ."""
        steps = metadata.get("steps")
        for step in steps if isinstance(steps, list) else []:
            self._observe(StepEnded(step["name"], step["exit_code"], step["duration_s"]))
        lost_bytes = metadata.get("lost_log_bytes")
        if isinstance(lost_bytes, int) and lost_bytes:
            self._observe(LogLost(lost_bytes))


def _size_of(chunks: Sequence[Chunk]) -> int:
    """Return the bytes of consecutive chunks; encodes none but the last, if it has to."""
    last = chunks[-1]
    size = len(last.text) if last.text.isascii() else len(last.text.encode())
    return last.byte_offset + size - chunks[0].byte_offset


def _result_of(exc: ControlPlaneError) -> RpcResult:
    if isinstance(exc, Unauthorized):
        return RpcResult.UNAUTHORIZED
    return RpcResult.REJECTED if isinstance(exc, Rejected) else RpcResult.UNAVAILABLE
