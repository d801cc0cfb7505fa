"""The judgement over each provision: which promise was broken, and how that shows.

Pure: works on :class:`Case` values alone. Every rule is a function from a case to its violations;
the unit tests plant each kind of violation, so that no rule is there that cannot fail.

What may happen to a provision follows from what was done to it, and nothing else is excused:

- Nothing, or only agents, networks and control planes were hurt: it ends in SUCCESS, applied once,
  with its whole log.
- Its Terraform was killed or told to end, or its agent told to interrupt: it may be FAILED; what it
  had written straight into its pipes is stored.
- Its pod was killed: it may be FAILED; what is stored is an exact prefix that holds all that was on
  disk, and the verdict says that a tail may be missing.
- The disk was full: it may be FAILED; what is missing in its log is said there.
- Its owner cancelled it: it is CANCELLED, or had come to its end before; and where nothing else
  hurt it, it was stopped soon.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from tests.chaos.evidence import WAYS, Case, Chunk, Injury, Row
from tests.chaos.script import KINDS, Target


class Broken(Enum):
    """A kind of violation."""

    LOST = "provisions lost"
    TWICE = "run twice, or two at once"
    LOG_LOST = "log bytes lost"
    LOG_DOUBLED = "log bytes doubled"
    TAIL_UNSAID = "a tail may be missing, and nobody says so"
    NOT_ADOPTED = "adoptable runs not adopted"
    ORPHANED = "wrong ORPHANED verdicts"
    UNHEEDED = "cancels that were not heeded"
    UNTRUE = "outcomes that are not what happened"
    STUCK = "stuck provisions"
    CRASHED = "processes that ended by themselves"
    LEAKED = "leaked processes"


@dataclass(frozen=True, slots=True)
class Violation:
    """:ivar run: its number in the schedule; None for what is no run's own"""

    broken: Broken
    run: int | None
    says: str


_ENDED = ("SUCCESS", "FAILED", "CANCELLED")
#: By which codes a provision may be FAILED after its own Terraform was killed or told to end …
_TERRAFORM_CODES = ("TERRAFORM_FAILED", "PROCESS_LOST", "AGENT_RESTARTED")
#: … its pod was killed (it returns, so that the verdict on a silent agent does not stand) …
_POD_CODES = ("AGENT_RESTARTED",)
#: … or its agent's disk was full.
_DISK_CODES = (
    *("TERRAFORM_FAILED", "SPOOL_FAILED", "STEP_FAILED", "WORKSPACE_FAILED"),
    *("TEMPLATE_UNAVAILABLE", "PROCESS_LOST", "AGENT_RESTARTED"),
)
#: By which codes it may be CANCELLED: while it waited, while it ran, when its agent was silent.
_CANCEL_CODES = ("", "CANCELLED", "AGENT_LOST")
#: After these the control plane may have given an apply up, and gone on without it.
_SILENCES = ("agent-silence", "pod-outage", "net-outage")
_HEED_S = 10.0  # for a cancel to reach Terraform, and for that to end, on a busy machine
_RECOVER_S = 20.0  # for whoever was struck to be heard again
_TAIL_SAID = re.compile(r"tail|may be missing|may be incomplete", re.IGNORECASE)
_GAP_SAID = re.compile(r"bytes? of output (?:is|are) missing")
_BROKEN_BY_TERRAFORM = re.compile(r"\nterraform_data\.printer \(local-exec\): (?!chaos )")
_TEXT_OF_FORM = "chaos {token} {way} (?P<n>\\d+) (?P<pad>0+) é漢🌱\\n"


def judge(case: Case) -> list[Violation]:
    """Return everything that is broken about one provision."""
    return [
        Violation(broken, case.run.number, says) for rule in RULES for broken, says in rule(case)
    ]


def judge_stack(cases: Iterable[Case]) -> list[Violation]:
    """Return what is broken about the state of one stack, given all of its provisions.

    Only the last apply is judged by it: each replaces what the one before it left.
    """
    applied = [case for case in cases if case.witness.starts and case.row is not None]
    if not applied:
        return []
    last = max(applied, key=lambda case: case.witness.starts[-1])
    assert last.row is not None
    if last.row.status != "SUCCESS" or last.state == last.run.token:
        return []
    says = f"SUCCESS, and the state of {last.run.stack} is that of {last.state}"
    return [Violation(Broken.UNTRUE, last.run.number, says)]


def judge_rest(
    surprises: Iterable[str], leaked: Iterable[str], postponed: Iterable[int]
) -> list[Violation]:
    """Return what is broken apart from any provision.

    :param postponed: runs that were never submitted, since those before them did not end
    """
    return [
        *(Violation(Broken.CRASHED, None, what) for what in surprises),
        *(Violation(Broken.LEAKED, None, what) for what in leaked),
        *(Violation(Broken.STUCK, run, "its queue came to a halt before it") for run in postponed),
    ]


Finding = tuple[Broken, str]


# --- what became of it --------------------------------------------------------------------------


def is_there_and_over(case: Case) -> Iterator[Finding]:
    row = case.row
    if row is None:
        yield Broken.LOST, f"{case.provision_id} is not in the database"
    elif row.status not in _ENDED:
        yield Broken.STUCK, f"{row.status} in attempt {row.attempt}, long after all strikes"
    elif row.has_lease:
        yield Broken.STUCK, f"{row.status}, and its lease is still there"


def ends_as_it_may(case: Case) -> Iterator[Finding]:
    row = case.row
    if row is None or row.status not in _ENDED or row.status == "SUCCESS" or _is_excused(case, row):
        return
    says = f"{row.status} {row.error_code}: {(row.error_message or '')[:300]}"
    is_adoptable = any(case.provision_id in injury.survived for injury in case.injuries)
    yield (Broken.NOT_ADOPTED if is_adoptable else Broken.LOST), says


def _is_excused(case: Case, row: Row) -> bool:
    code = row.error_code or ""
    if row.status == "CANCELLED":
        return bool(_cancels(case)) and code in _CANCEL_CODES
    if code == "AGENT_SHUTDOWN":
        return any(
            injury.kind == "agent-interrupt" and injury.agent_id == row.claimed_by
            for injury in case.injuries
        )
    if code == "CONTROL_PLANE_LOST":  # said by its definition before the apply only
        return not case.witness.starts and bool(_outages(case))
    if code == "AGENT_LOST_DURING_APPLY" and "late_result" in row.execution_metadata:
        return any(_was(case, kind) for kind in _SILENCES)
    return (
        (_terraform_was_ended(case) and code in _TERRAFORM_CODES)
        or (_pod_died(case) and code in _POD_CODES)
        or (_was(case, "disk-full") and code in _DISK_CODES)
    )


def applies_once(case: Case) -> Iterator[Finding]:
    witness = case.witness
    if len(witness.starts) > 1:
        yield Broken.TWICE, f"applied {len(witness.starts)} times, at {witness.starts}"
    if witness.overlaps:
        yield Broken.TWICE, f"began while another apply of {case.run.stack} was running"


def says_what_happened(case: Case) -> Iterator[Finding]:
    row = case.row
    if row is None:
        return
    if row.status == "SUCCESS" and len(case.witness.ends) != 1:
        yield Broken.UNTRUE, f"SUCCESS, and {len(case.witness.ends)} applies came to their end"
    if row.status == "CANCELLED" and not _cancels(case):
        yield Broken.UNTRUE, "CANCELLED, and nobody asked for it"
    late = [at for at in case.witness.starts if row.completed_at and at > row.completed_at]
    if late:
        yield Broken.UNTRUE, f"{row.status} at {row.completed_at}, and an apply began at {late}"


def heeds_its_owner(case: Case) -> Iterator[Finding]:
    """Look for an apply that went on long after its cancel, with nobody hurt who had to hear."""
    for cancel in _cancels(case):
        if _is_disturbed(case, cancel):
            continue
        after_s = [at - cancel.at for at in (*case.witness.starts, *case.witness.ends)]
        if max(after_s, default=0.0) > _HEED_S:
            yield Broken.UNHEEDED, f"its apply went on {max(after_s):.1f} s after {cancel.kind}"


def orphans_only_the_dead(case: Case) -> Iterator[Finding]:
    """Look at what is called ORPHANED: somebody must have been killed, and nobody live on."""
    row = case.row
    lock = row.execution_metadata.get("lock") if row else None
    if row is None or not isinstance(lock, dict) or lock.get("state") != "ORPHANED":
        return
    was_ended = _terraform_was_ended(case) or _pod_died(case) or _cancels(case)
    if not (was_ended or _was(case, "agent-interrupt")):
        yield Broken.ORPHANED, "ORPHANED, and nothing of it was killed or told to end"
    last = max(case.witness.ends, default=0.0)
    if last > (row.completed_at or 0.0):
        yield Broken.ORPHANED, f"ORPHANED at {row.completed_at}, and its apply ended at {last}"


# --- its log ------------------------------------------------------------------------------------


def is_numbered_without_holes(case: Case) -> Iterator[Finding]:
    for attempt, chunks in _by_attempt(case.chunks).items():
        offset = 0
        for place, chunk in enumerate(chunks):
            if chunk.seq != place or chunk.byte_offset != offset:
                says = f"chunk {chunk.seq}, byte {chunk.byte_offset} at {place}, {offset}"
                yield Broken.LOG_LOST, f"attempt {attempt} has {says}"
                break
            offset += len(chunk.text.encode())


def stores_what_was_printed(case: Case) -> Iterator[Finding]:
    """Compare the stored lines with those that were printed, way by way."""
    row = case.row
    if row is None or row.status not in _ENDED:
        return
    if lost := row.execution_metadata.get("undelivered_log_chunks"):
        yield Broken.LOG_LOST, f"{lost} chunks were never delivered"
    printing = [
        chunks for chunks in _by_attempt(case.chunks).values() if _mentions_lines(chunks, case)
    ]
    if len(printing) > 1:
        yield Broken.TWICE, f"{len(printing)} attempts have lines of the apply"
    chunks = printing[0] if printing else []
    has_gap = _says(chunks, _GAP_SAID) or bool(row.execution_metadata.get("lost_log_bytes"))
    if has_gap and not _was(case, "disk-full"):
        yield Broken.LOG_LOST, "output is missing by its own account, and no disk was full"
    for way in WAYS:
        yield from _compare(case, row, way, chunks, has_gap=has_gap)


def _compare(
    case: Case, row: Row, way: str, chunks: list[Chunk], *, has_gap: bool
) -> Iterator[Finding]:
    stream = "STDERR" if way == "err" else "STDOUT"
    text = "".join(chunk.text for chunk in chunks if chunk.stream == stream)
    numbers, rest = _lines_in(text, case.run.token, way)
    may_end_early = row.status != "SUCCESS" or _pod_died(case)
    repeated = sum(later <= earlier for earlier, later in pairwise(numbers))
    if repeated:
        yield Broken.LOG_DOUBLED, f"{repeated} of {len(numbers)} lines of {way} come again"
    if has_gap:
        return
    if not repeated and numbers != list(range(1, len(numbers) + 1)):
        yield Broken.LOG_LOST, f"lines of {way} are missing between others"
    last = max(numbers, default=0)
    needed, why = _needed(case, row, way)
    if last < needed:
        yield Broken.LOG_LOST, f"{last} lines of {way} are stored, and {needed} {why}"
    # A log that ends early may do so within a line; nothing else may be torn.
    if rest and not (last < case.run.lines and may_end_early and len(rest) == 1):
        yield Broken.LOG_LOST, f"{len(rest)} lines of {way} are torn"


def _needed(case: Case, row: Row, way: str) -> tuple[int, str]:
    """Return how many lines must be stored at least, and why."""
    if row.status == "SUCCESS" and not _pod_died(case):
        return case.run.lines, "were printed by a run that is a SUCCESS"
    kept = max(
        (injury.kept.get(case.run.token, {}).get(way, 0) for injury in case.injuries), default=0
    )
    if _pod_died(case):
        return kept, "were on disk when the pod was killed"
    if way == "ui":  # these may have died within Terraform
        return kept, "were on disk"
    return case.witness.printed[way], "had left for the agent"


def says_that_a_tail_may_be_missing(case: Case) -> Iterator[Finding]:
    """Whoever loses a pod in its apply is told that the log may lack its end."""
    row = case.row
    if row is None or row.status not in _ENDED or not _pod_died(case):
        return
    stored = {
        way: max(_lines_in(_text(case, way), case.run.token, way)[0], default=0) for way in WAYS
    }
    is_short = any(stored[way] < case.witness.printed[way] for way in WAYS)
    said = f"{row.error_message} {''.join(c.text for c in case.chunks if c.stream == 'SYSTEM')}"
    if is_short and not _TAIL_SAID.search(said):
        says = f"{row.status} {row.error_code or ''}: {(row.error_message or '')[:300]}"
        yield Broken.TAIL_UNSAID, f"{says} {stored} of {dict(case.witness.printed)}"


RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    is_there_and_over,
    ends_as_it_may,
    applies_once,
    says_what_happened,
    heeds_its_owner,
    orphans_only_the_dead,
    is_numbered_without_holes,
    stores_what_was_printed,
    says_that_a_tail_may_be_missing,
)


# --- what was done, and what is stored ----------------------------------------------------------


def _was(case: Case, kind: str) -> bool:
    """Tell whether a strike of *kind* hit this provision."""
    return any(
        injury.kind == kind and injury.touches(case.provision_id) for injury in case.injuries
    )


def _cancels(case: Case) -> list[Injury]:
    return [injury for injury in case.injuries if case.provision_id in injury.cancelled]


def _is_disturbed(case: Case, cancel: Injury) -> bool:
    """Tell whether anything else was struck of those who had to hear of a cancel."""
    claimed_by = case.row.claimed_by if case.row else None
    return cancel.kind == "cancel-kill" or any(
        injury is not cancel
        and injury.at < cancel.at + _HEED_S
        and injury.over_at > cancel.at - _RECOVER_S
        and not injury.cancelled
        and (
            KINDS[injury.kind].target is Target.PLANE
            or injury.agent_id == claimed_by
            or injury.touches(case.provision_id)
        )
        for injury in case.injuries
    )


def _pod_died(case: Case) -> bool:
    """Tell whether a pod died with the run; one that dies after a SUCCESS takes nothing along."""
    row = case.row
    success_at = row.completed_at if row is not None and row.status == "SUCCESS" else None
    return any(
        KINDS[injury.kind].target is Target.POD
        and injury.touches(case.provision_id)
        and (success_at is None or injury.at < success_at)
        for injury in case.injuries
    )


def _terraform_was_ended(case: Case) -> bool:
    return any(
        case.provision_id in injury.killed and KINDS[injury.kind].target is Target.TERRAFORM
        for injury in case.injuries
    )


def _outages(case: Case) -> list[str]:
    """Return the strikes by which anybody may have been unable to speak with the control plane."""
    return [
        injury.kind
        for injury in case.injuries
        if KINDS[injury.kind].target in (Target.PLANE, Target.NETWORK)
        or injury.kind in ("agent-pause", *_SILENCES)
    ]


def _by_attempt(chunks: Iterable[Chunk]) -> dict[int, list[Chunk]]:
    attempts: dict[int, list[Chunk]] = {}
    for chunk in chunks:
        attempts.setdefault(chunk.attempt, []).append(chunk)
    return attempts


def _mentions_lines(chunks: list[Chunk], case: Case) -> bool:
    return any(f"chaos {case.run.token} " in chunk.text for chunk in chunks)


def _says(chunks: Iterable[Chunk], what: re.Pattern[str]) -> bool:
    return any(chunk.stream == "SYSTEM" and what.search(chunk.text) for chunk in chunks)


def _text(case: Case, way: str) -> str:
    stream = "STDERR" if way == "err" else "STDOUT"
    return "".join(chunk.text for chunk in case.chunks if chunk.stream == stream)


def _lines_in(text: str, token: str, way: str) -> tuple[list[int], list[int]]:
    """Return the numbers of the whole lines in *text*, and where each torn one ends.

    Whole means: of the length that its number asks for, with every character of its end. Terraform
    itself breaks a line of its provisioner in two when half of one stands still for a while; those
    halves are put together again.
    """
    if way == "ui":
        text = re.sub(_TEXT_OF_FORM.format(token=token, way="out"), "", text)
        text = _BROKEN_BY_TERRAFORM.sub("", text)
    form = re.compile(_TEXT_OF_FORM.format(token=token, way=way))
    numbers: list[int] = []
    torn: list[int] = []
    for begin in re.finditer(f"chaos {token} {way} ", text):
        found = form.match(text, begin.start())
        if found is not None and len(found["pad"]) == width_of(int(found["n"])):
            numbers.append(int(found["n"]))
        else:
            newline = text.find("\n", begin.start())
            torn.append(len(text) if newline < 0 else newline)
    return numbers, torn


def width_of(number: int) -> int:
    """Return how many zeros stand in a line; as in ``template/printer.sh``."""
    return number * 37 % 397 + 1
