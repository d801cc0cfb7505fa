"""JSON on the wire to the model and back: the only place where shapes are untyped.

Pure. What the control plane sends is checked before it is believed: an answer of another shape is
:class:`Unavailable` (a proxy's page, another product behind the URL), never a crash. A snapshot
passes through as text; ``control/snapshot.py`` reads it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tendril_rt.errors import Unavailable
from tendril_rt.model import (
    Ack,
    AgentId,
    Cancel,
    Chunk,
    ClusterId,
    HeartbeatAnswer,
    Lease,
    LeaseState,
    Operation,
    Provision,
    ProvisionId,
    RealtimeToken,
    Status,
)

#: Columns that a claim asks for; the snapshot travels as text, so that no parser rounds it.
CLAIM_COLUMNS = (
    "id",
    "cluster_id",
    "attempt",
    "operation",
    "stack_key",
    "configuration_hash",
    "signature",
    "config_snapshot::text",
    "created_at",
    "started_at",
)


def provision_of(rows: object, agent_id: AgentId) -> Provision | None:
    """Read the answer of a claim: one row, or none.

    :raises Unavailable: the answer is not that of our claim
    """
    if not isinstance(rows, list) or len(rows) > 1:
        raise _unexpected("fetch_next_provision", rows)
    if not rows:
        return None
    try:
        row = rows[0]
        return Provision(
            lease=Lease(ProvisionId(_text(row["id"])), int(row["attempt"]), agent_id),
            cluster_id=ClusterId(_text(row["cluster_id"])),
            operation=Operation(row["operation"]),
            stack_key=_text(row["stack_key"]),
            snapshot_json=_text(row["config_snapshot"]),
            configuration_hash=row["configuration_hash"] and _text(row["configuration_hash"]),
            signature=row["signature"] and _text(row["signature"]),
            queued_s=_seconds_between(row.get("created_at"), row.get("started_at")),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise _unexpected("fetch_next_provision", rows) from exc


def heartbeat_answer_of(answer: object) -> HeartbeatAnswer:
    """:raises Unavailable: the answer is not that of our heartbeat"""
    try:
        fields: Mapping[str, Any] = dict(answer)  # type: ignore[call-overload]
        return HeartbeatAnswer(
            leases={
                ProvisionId(item["provision_id"]): LeaseState(
                    held=item["held"] is True, cancel=Cancel(item["cancel"])
                )
                for item in fields["leases"]
            },
            drain=fields["drain"] is True,
            lease_ttl_s=float(fields["lease_ttl_s"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise _unexpected("agent_heartbeat", answer) from exc


def ack_of(answer: object) -> Ack:
    """:raises Unavailable: the answer is not that of our log insert"""
    try:
        fields: Mapping[str, Any] = dict(answer)  # type: ignore[call-overload]
        return Ack(int(fields["next_seq"]), fields["accepted"] is True, Cancel(fields["cancel"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise _unexpected("insert_provision_logs", answer) from exc


def check_reported(answer: object) -> None:
    """:raises Unavailable: the answer is not that of our report"""
    if not isinstance(answer, dict) or answer.get("status") not in tuple(Status):
        raise _unexpected("update_provision_status", answer)


def realtime_token_of(answer: object) -> RealtimeToken | None:
    """:raises Unavailable: the answer is not that of our token function"""
    if answer is None:
        return None
    try:
        fields: Mapping[str, Any] = dict(answer)  # type: ignore[call-overload]
        return RealtimeToken(_text(fields["token"]), float(fields["expires_in_s"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise _unexpected("agent_realtime_token", None) from exc


def chunks_json(chunks: Sequence[Chunk]) -> list[dict[str, object]]:
    """Return what ``insert_provision_logs`` takes; no text is copied before the encoder."""
    return [{"s": chunk.stream.value, "o": chunk.byte_offset, "t": chunk.text} for chunk in chunks]


def _seconds_between(earlier: object, later: object) -> float | None:
    if not isinstance(earlier, str) or not isinstance(later, str):
        return None
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return value


def _unexpected(function: str, answer: object) -> Unavailable:
    return Unavailable(
        f"{function} answered something that is not ours ({str(answer)[:80]!r}): is SUPABASE_URL "
        "the control plane, and are its migrations applied?"
    )
