"""The words of the domain: provisions, attempts, leases, their states and legal moves.

Pure: no I/O, no clock, no import of another's library. The database enforces the same moves
(``sql/migrations``); here they serve the types and the tests that compare the two.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NewType

_MAX_DIGITS = 400  # of a number that anything prints in full

ClusterId = NewType("ClusterId", str)
ProvisionId = NewType("ProvisionId", str)
AgentId = NewType("AgentId", str)
ClaimId = NewType("ClaimId", str)


class Status(StrEnum):
    """Where a provision stands; the last three are terminal."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        return not LEGAL_MOVES[self]


#: From which status a provision may move to which. QUEUED again: a reaped attempt before APPLY.
LEGAL_MOVES: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.QUEUED, Status.SUCCESS, Status.FAILED, Status.CANCELLED}),
    Status.SUCCESS: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Operation(StrEnum):
    """What a provision asks Terraform to do."""

    APPLY = "APPLY"
    PLAN = "PLAN"
    DESTROY = "DESTROY"


class Phase(StrEnum):
    """How far an attempt is; it decides what may happen to a silent agent's lease."""

    PREPARE = "PREPARE"
    PLAN = "PLAN"
    APPLY = "APPLY"


class StreamType(StrEnum):
    """Where a chunk of log came from; SYSTEM is the agent itself."""

    STDOUT = "STDOUT"
    STDERR = "STDERR"
    SYSTEM = "SYSTEM"


class Cancel(StrEnum):
    """What the owner asked of a running provision."""

    NONE = "none"
    GRACEFUL = "graceful"
    FORCE = "force"


@dataclass(frozen=True, slots=True)
class Lease:
    """The time-bounded right to act on a provision.

    ``(attempt, agent_id)`` is the fencing token: every write carries it, the database refuses an
    older one.
    """

    provision_id: ProvisionId
    attempt: int
    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class Provision:
    """A claimed provision, as the control plane handed it out.

    :ivar snapshot_json: ``config_snapshot`` as exact JSON text: numbers keep every digit
    :ivar configuration_hash: sha256 (hex) of the snapshot's RFC 8785 form, or None
    :ivar signature: the submitter's, or None (docs/signing.md)
    :ivar queued_s: from its creation to this claim by the control plane's clock, where it said so
    """

    lease: Lease
    cluster_id: ClusterId
    operation: Operation
    stack_key: str
    snapshot_json: str
    configuration_hash: str | None
    signature: str | None = None
    queued_s: float | None = None


@dataclass(frozen=True, slots=True)
class TemplateSource:
    """Which template, at which version, in which folder of its repository."""

    repo: str
    version: str
    path: str


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the submitter lets things take, in seconds; None leaves it to the agent.

    :ivar provision_s: the whole attempt
    """

    init_s: float | None = None
    plan_s: float | None = None
    apply_s: float | None = None
    provision_s: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A validated ``config_snapshot`` (the submitter's desired state, frozen).

    :ivar terraform_vars_json: the variables as exact JSON text, an object
    :ivar sensitive: names of variables whose values may appear nowhere; all are in the variables
    :ivar cost_estimate: the submitter wants the costs estimated before an apply
    """

    template: TemplateSource
    terraform_vars_json: str = field(repr=False)
    backend_config: Mapping[str, str] = field(repr=False)
    sensitive: frozenset[str]
    timeouts: Timeouts = Timeouts()
    cost_estimate: bool = False

    def sensitive_values(self) -> frozenset[str]:
        """Return every text and number inside the sensitive variables, however deep.

        Numbers as they were written and as Terraform prints them (``1.10`` is also ``1.1``).
        """
        variables = json.loads(
            self.terraform_vars_json, parse_int=_number_texts, parse_float=_number_texts
        )
        return frozenset(_texts_in([variables.get(name) for name in self.sensitive]))


def _number_texts(written: str) -> list[str]:
    try:
        number = Decimal(written)
    except ArithmeticError:  # an exponent of more than 18 digits
        return [written]
    if abs(number.adjusted()) > _MAX_DIGITS or len(written) > _MAX_DIGITS:
        return [written]
    printed = format(number, "f")
    return [written, printed.rstrip("0").rstrip(".") if "." in printed else printed]


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: exactly one per attempt.

    :ivar error_message: for FAILED and CANCELLED, what happened and how to mend it
    :ivar error_code: stable upper-case word, listed in docs/errors.md
    """

    status: Status
    error_message: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One upload unit of an attempt's log.

    :ivar seq: position in the attempt, from 0, without holes, over all streams
    :ivar byte_offset: bytes of text, in UTF-8, in all earlier chunks of the attempt
    :ivar text: without NUL; what the log's raw bytes were decoded to, the one time that they are
    """

    seq: int
    byte_offset: int
    stream: StreamType
    text: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The control plane's answer to delivered chunks.

    :ivar next_seq: the first chunk that it does not have; everything before is stored
    :ivar accepted: False for a gap: rewind to *next_seq*
    """

    next_seq: int
    accepted: bool
    cancel: Cancel


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What one heartbeat said of one lease. Not held means: superseded, stop."""

    held: bool
    cancel: Cancel


@dataclass(frozen=True, slots=True)
class HeartbeatAnswer:
    """What one heartbeat said.

    :ivar leases: by provision, for the leases that were listed
    :ivar drain: the owner wants this cluster to claim nothing more
    :ivar lease_ttl_s: how long a lease lives after the beat that renewed it, in seconds
    """

    leases: Mapping[ProvisionId, LeaseState]
    drain: bool
    lease_ttl_s: float


@dataclass(frozen=True, slots=True)
class RealtimeToken:
    """A short-lived token to listen with.

    :ivar expires_in_s: seconds until it expires, as the control plane counted when it made it
    """

    token: str
    expires_in_s: float


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of the grace is kept for, after draining, in seconds.

    One budget: the service interrupts Terraform :attr:`total_s` before the grace ends, the attempt
    gives its log :attr:`deliver_s`, and a grace that does not hold them all is refused.

    :ivar stop_s: for Terraform to end after its interrupt (a plan: 30 s, then it is killed)
    :ivar deliver_s: for what is left of the log; after that it stays in the spool
    :ivar exit_s: to report the outcome and exit
    """

    stop_s: float
    deliver_s: float
    exit_s: float

    @property
    def total_s(self) -> float:
        return self.stop_s + self.deliver_s + self.exit_s

    def __str__(self) -> str:
        return (
            f"{self.stop_s:g} s to stop Terraform + {self.deliver_s:g} s to deliver its log + "
            f"{self.exit_s:g} s to report and exit"
        )


ENDING = Ending(stop_s=45.0, deliver_s=60.0, exit_s=15.0)
