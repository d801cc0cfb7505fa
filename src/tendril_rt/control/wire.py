"""JSON on the wire to the model and back: the only place where shapes are untyped.

Pure; keeps every digit of every number in a snapshot. What the control plane sends is checked
before it is believed: an answer of another shape is :class:`Unavailable` (a proxy's page, another
product behind the URL), never a crash.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rfc8785
import simplejson
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, field_validator

from tendril_rt.errors import SnapshotError, Unavailable
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
    Snapshot,
    Status,
    TemplateSource,
)

#: Columns that a claim asks for; the snapshot travels as text, so that no parser rounds it.
CLAIM_COLUMNS = (
    "id",
    "cluster_id",
    "attempt",
    "operation",
    "stack_key",
    "configuration_hash",
    "config_snapshot::text",
)

_MAX_EXACT_INTEGER = 2**53 - 1  # RFC 8785 has no integers beyond it


class _Template(BaseModel):
    model_config = ConfigDict(extra="allow")
    repo: StrictStr = Field(min_length=1)
    version: StrictStr = Field(min_length=1)
    path: StrictStr | None = None


class _Snapshot(BaseModel):
    model_config = ConfigDict(extra="allow")
    template_source: _Template
    terraform_vars: dict[str, Any] | None = None
    sensitive: list[StrictStr] = []
    backend_config: dict[str, StrictStr | bool | int] | None = None

    @field_validator("terraform_vars")
    @classmethod
    def _names_are_identifiers(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in value or {}:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
                raise ValueError(f"{name!r} is not the name of a Terraform variable")
        return value


def parse_snapshot(text: str) -> Snapshot:
    """Return the validated snapshot; unknown keys are allowed and ignored.

    :raises SnapshotError: names the field and what is wrong with it
    """
    try:
        parsed = _Snapshot.model_validate(simplejson.loads(text, use_decimal=True))
    except ValidationError as exc:
        faults = "; ".join(
            f"config_snapshot.{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in exc.errors(include_input=False, include_url=False)
        )
        raise SnapshotError(f"the provision's configuration is malformed: {faults}") from exc
    except (ValueError, RecursionError) as exc:
        raise SnapshotError(f"the provision's configuration is not JSON: {exc}") from exc
    backend = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in (parsed.backend_config or {}).items()
    }
    return Snapshot(
        template=TemplateSource(
            parsed.template_source.repo,
            parsed.template_source.version,
            parsed.template_source.path or "",
        ),
        terraform_vars_json=simplejson.dumps(
            parsed.terraform_vars or {}, use_decimal=True, ensure_ascii=False
        ),
        backend_config=backend,
        sensitive=frozenset(parsed.sensitive),
    )


def snapshot_hash(text: str) -> str:
    """Return the sha256 (hex) of the RFC 8785 form of the JSON *text*.

    :raises SnapshotError: it holds a number that RFC 8785 cannot express, named by its path
    """
    try:
        value = json.loads(text)
        for path, number in _integers(value, "config_snapshot"):
            if abs(number) > _MAX_EXACT_INTEGER:
                raise SnapshotError(
                    f"{path} is an integer beyond ±(2^53-1), which a configuration_hash cannot "
                    "cover (RFC 8785): send it as a string, or submit without a hash"
                )
        return hashlib.sha256(rfc8785.dumps(value)).hexdigest()
    except (json.JSONDecodeError, RecursionError) as exc:
        raise SnapshotError(f"the provision's configuration is not JSON: {exc}") from exc
    except rfc8785.CanonicalizationError as exc:
        raise SnapshotError(f"the provision's configuration has no RFC 8785 form: {exc}") from exc


def check_hash(text: str, claimed: str | None, *, required: bool) -> None:
    """Compare a snapshot with the hash its submitter made.

    :raises SnapshotError: the hash differs, or is absent where *required*
    """
    if claimed is None:
        if required:
            raise SnapshotError(
                "the provision carries no configuration_hash and this agent requires one "
                "(TENDRIL_REQUIRE_CONFIGURATION_HASH): submit it with a client that makes one"
            )
        return
    actual = snapshot_hash(text)
    if actual != claimed.lower():
        raise SnapshotError(
            f"configuration_hash is {claimed[:64]} but the configuration's RFC 8785 sha256 is "
            f"{actual}: it was changed after it was submitted, or hashed by other rules"
        )


def _integers(value: object, path: str) -> Iterable[tuple[str, int]]:
    if isinstance(value, bool):
        return
    if isinstance(value, int):
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _integers(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _integers(item, f"{path}[{index}]")


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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return value


def _unexpected(function: str, answer: object) -> Unavailable:
    return Unavailable(
        f"{function} answered something that is not ours ({str(answer)[:80]!r}): is SUPABASE_URL "
        "the control plane, and are its migrations applied?"
    )
