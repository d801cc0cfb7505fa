"""The agent's calls to the control plane: one method per RPC, nothing else.

Authenticated by cluster id and the token's hash; the token itself never leaves the process, and
the header for audit trails holds twelve digits of the hash, useless to a thief.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tendril_rt.control import wire
from tendril_rt.control.rest import Rest, connect
from tendril_rt.model import (
    Ack,
    AgentId,
    Chunk,
    ClaimId,
    ClusterId,
    HeartbeatAnswer,
    Lease,
    Outcome,
    Phase,
    Provision,
    RealtimeToken,
)
from tendril_rt.settings import ControlSettings

_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """Who beats.

    :ivar install_id: the installation that it belongs to; empty: it was told none
    """

    agent_id: AgentId
    hostname: str
    version: str
    capacity: int
    install_id: str = ""


class ControlPlane:
    """The agent's view of the control plane; see :func:`control_plane`.

    Every method raises :class:`Unavailable` when the same call may be tried again, and
    :class:`Rejected` (:class:`Unauthorized`, :class:`LeaseLost`) when not. Cancellation of any of
    them is safe: the control plane may or may not have acted, and all of them may be repeated.
    """

    def __init__(self, rest: Rest, cluster_id: ClusterId, token_hash: str) -> None:
        self._rest = rest
        self._who: Mapping[str, object] = {
            "p_cluster_id": cluster_id,
            "p_token_hash": token_hash,
        }

    async def heartbeat(
        self, agent: AgentInfo, leases: Mapping[Lease, Phase], *, is_draining: bool
    ) -> HeartbeatAnswer:
        """Say that the agent lives, renew *leases* with their phases.

        Source: agent_heartbeat, sql/migrations
        """
        answer = await self._rest.call(
            "agent_heartbeat",
            {
                **self._who,
                "p_agent": {
                    "id": agent.agent_id,
                    "hostname": agent.hostname,
                    "version": agent.version,
                    "capacity": agent.capacity,
                    **({"install_id": agent.install_id} if agent.install_id else {}),
                    "state": "DRAINING" if is_draining else "ONLINE",
                    "leases": [
                        {
                            "provision_id": lease.provision_id,
                            "attempt": lease.attempt,
                            "phase": phase.value,
                        }
                        for lease, phase in leases.items()
                    ],
                },
            },
        )
        return wire.heartbeat_answer_of(answer)

    async def claim(self, agent_id: AgentId, claim_id: ClaimId) -> Provision | None:
        """Take the next provision, if there is one that may run.

        :param claim_id: repeat it when the answer was lost: the same provision is answered

        Source: fetch_next_provision, sql/migrations
        """
        rows = await self._rest.call(
            "fetch_next_provision",
            {**self._who, "p_agent_id": agent_id, "p_claim_id": claim_id},
            select=wire.CLAIM_COLUMNS,
        )
        return wire.provision_of(rows, agent_id)

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        """Store consecutive chunks; those that are stored already are skipped.

        Source: insert_provision_logs, sql/migrations
        """
        answer = await self._rest.call(
            "insert_provision_logs",
            {
                **self._who,
                "p_provision_id": lease.provision_id,
                "p_attempt": lease.attempt,
                "p_agent_id": lease.agent_id,
                "p_first_seq": first_seq,
                "p_chunks": wire.chunks_json(chunks),
            },
        )
        return wire.ack_of(answer)

    async def finish(
        self,
        lease: Lease,
        outcome: Outcome,
        *,
        log_chunks: int,
        metadata: Mapping[str, object],
    ) -> None:
        """Report the attempt's one outcome; refused until *log_chunks* chunks are stored.

        Repeating the same report is a success.

        Source: update_provision_status, sql/migrations
        """
        answer = await self._rest.call(
            "update_provision_status",
            {
                **self._who,
                "p_provision_id": lease.provision_id,
                "p_status": outcome.status.value,
                # It may quote a program's output, and Postgres text cannot hold NUL.
                "p_error_message": (outcome.error_message or "").replace("\0", "") or None,
                "p_error_code": outcome.error_code,
                "p_attempt": lease.attempt,
                "p_agent_id": lease.agent_id,
                "p_log_chunks": log_chunks,
                "p_execution_metadata": metadata,
            },
        )
        wire.check_reported(answer)

    async def realtime_token(self) -> RealtimeToken | None:
        """Return a token to listen with; None where the project has no shared JWT secret.

        Source: agent_realtime_token, sql/migrations
        """
        return wire.realtime_token_of(
            await self._rest.call("agent_realtime_token", dict(self._who))
        )


@asynccontextmanager
async def control_plane(settings: ControlSettings) -> AsyncIterator[ControlPlane]:
    """Open the agent's session; nothing is sent before the first call."""
    token_hash = hashlib.sha256(settings.api_token.encode()).hexdigest()
    headers = {
        "X-Cluster-ID": settings.cluster_id,
        "X-Agent-Token": token_hash[:_FINGERPRINT_DIGITS],
    }
    async with connect(
        settings.url,
        settings.api_key,
        token=settings.api_key,
        headers=headers,
        timeout_s=settings.request_timeout_s,
    ) as rest:
        yield ControlPlane(rest, settings.cluster_id, token_hash)
