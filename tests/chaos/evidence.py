"""What is known of each provision when all is over: rows, log, witness, state, injuries.

Reads files and makes values of them; concludes nothing.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.script import Run

WAYS = ("out", "err", "ui")
_KEPT = re.compile(rb"chaos (run\d+) (out|err|ui) (\d+) 0+ " + "é漢🌱\n".encode())


@dataclass(frozen=True, slots=True)
class Row:
    """A provision as the database has it; times are Unix times.

    :ivar has_lease: a lease of it is left
    """

    id: str
    seq: int
    stack_key: str
    status: str
    attempt: int
    claimed_by: str | None
    error_code: str | None
    error_message: str | None
    execution_metadata: Mapping[str, object]
    completed_at: float | None
    has_lease: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """One stored chunk of log."""

    provision_id: str
    attempt: int
    seq: int
    byte_offset: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One audit event of a provision."""

    provision_id: str
    action: str
    agent_id: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Injury:
    """What one strike did.

    :ivar kind: of the strike
    :ivar at: Unix time
    :ivar agent_id: the one that was struck; None for the control plane
    :ivar held: provisions of which that agent had files at that moment
    :ivar killed: provisions whose Terraform was killed or told to end by it
    :ivar survived: provisions whose Terraform was alive when its agent was killed alone
    :ivar cancelled: provisions that their owner had cancelled by it
    :ivar over_at: when it was undone
    :ivar kept: by token, the highest number of each kind of line on disk after a pod's death
    """

    kind: str
    at: float
    agent_id: str | None = None
    held: frozenset[str] = frozenset()
    killed: frozenset[str] = frozenset()
    survived: frozenset[str] = frozenset()
    cancelled: frozenset[str] = frozenset()
    over_at: float = 0.0
    kept: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def touches(self, provision_id: str) -> bool:
        return provision_id in self.held | self.killed | self.survived | self.cancelled


@dataclass(frozen=True, slots=True)
class Witness:
    """What an apply says of itself, outside of everything that was struck.

    :ivar starts: applies that began, each with its time
    :ivar ends: those that printed their last line
    :ivar overlaps: those that began while another of the stack ran
    :ivar printed: of each way, how many lines had left for certain
    """

    starts: tuple[float, ...] = ()
    ends: tuple[float, ...] = ()
    overlaps: int = 0
    printed: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(WAYS, 0))


@dataclass(frozen=True, slots=True)
class Case:
    """One provision.

    :ivar row: None if the database does not have it
    :ivar state: the token in its stack's state, None if there is none to be read
    """

    run: Run
    provision_id: str
    row: Row | None
    chunks: tuple[Chunk, ...]
    audit: tuple[AuditRow, ...]
    witness: Witness
    injuries: tuple[Injury, ...]
    state: str | None


def read_witness(path: Path) -> Witness:
    """Read what ``template/printer.sh`` wrote; no file: no apply."""
    if not path.exists():
        return Witness()
    starts: list[float] = []
    ends: list[float] = []
    overlaps = 0
    printed = dict.fromkeys(WAYS, 0)
    for line in path.read_text().splitlines():
        word, *rest = line.split()
        if word in printed:
            printed[word] = max(printed[word], int(rest[0]))
        elif word == "start":
            starts.append(float(rest[1]))
        elif word == "end":
            ends.append(float(rest[1]))
        elif word == "overlap":
            overlaps += 1
    return Witness(tuple(starts), tuple(ends), overlaps, printed)


def lines_kept(folder: Path) -> dict[str, dict[str, int]]:
    """Return, by token, the highest number of each kind of whole line in any file of *folder*.

    Whatever the files' format is: what stands there is to be delivered.
    """
    kept: dict[str, dict[str, int]] = {}
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        for token, way, number in _KEPT.findall(path.read_bytes()):
            ways = kept.setdefault(token.decode(), {})
            ways[way.decode()] = max(int(number), ways.get(way.decode(), 0))
    return kept


def state_token(path: Path) -> str | None:
    """Return whose apply a state file is of; None where there is none, or it is torn."""
    try:
        state = json.loads(path.read_text())
        return str(state["outputs"]["token"]["value"])
    except (OSError, ValueError, KeyError):
        return None


def cases(
    runs: Mapping[str, Run],
    rows: Iterable[Row],
    chunks: Iterable[Chunk],
    audit: Iterable[AuditRow],
    injuries: Iterable[Injury],
    *,
    witness_dir: Path,
    states_dir: Path,
) -> list[Case]:
    """Put together what is known of each provision of *runs*, by its id."""
    by_id = {row.id: row for row in rows}
    logs: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        logs.setdefault(chunk.provision_id, []).append(chunk)
    events: dict[str, list[AuditRow]] = {}
    for event in audit:
        events.setdefault(event.provision_id, []).append(event)
    everything = tuple(injuries)
    return [
        Case(
            run,
            provision_id,
            by_id.get(provision_id),
            tuple(logs.get(provision_id, ())),
            tuple(events.get(provision_id, ())),
            read_witness(witness_dir / run.token),
            everything,
            state_token(states_dir / f"{run.stack}.tfstate"),
        )
        for provision_id, run in runs.items()
    ]
