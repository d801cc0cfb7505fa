"""The judge finds every kind of violation that is planted, and nothing where there is none."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.chaos.evidence import Case, Chunk, Injury, Row, Witness
from tests.chaos.judge import RULES, Broken, judge, judge_rest, judge_stack, width_of
from tests.chaos.script import Run

_ID = "11111111-1111-4111-8111-111111111111"
_AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
_RUN = Run(number=7, cluster=0, stack="stack", lines=6, burst=3, pause_s=0.1, strikes=())
_ALL = range(1, _RUN.lines + 1)


def _line(way: str, number: int) -> str:
    return f"chaos {_RUN.token} {way} {number} {'0' * width_of(number)} é漢🌱\n"


def _chunks(*texts: tuple[str, str], attempt: int = 1) -> tuple[Chunk, ...]:
    """Number stream and text pairs as the control plane does."""
    chunks: list[Chunk] = []
    offset = 0
    for seq, (stream, text) in enumerate(texts):
        chunks.append(Chunk(_ID, attempt, seq, offset, stream, text))
        offset += len(text.encode())
    return tuple(chunks)


def _log(
    out: list[int] | range = _ALL,
    err: list[int] | range = _ALL,
    ui: list[int] | range = _ALL,
    system: str = "terraform apply …\n",
    attempt: int = 1,
) -> tuple[Chunk, ...]:
    prefix = "terraform_data.printer (local-exec): "
    return _chunks(
        ("SYSTEM", system),
        ("STDOUT", "".join(_line("out", n) for n in out)),
        ("STDERR", "".join(_line("err", n) for n in err)),
        ("STDOUT", "".join(prefix + _line("ui", n) for n in ui)),
        attempt=attempt,
    )


def _row(
    status: str = "SUCCESS", code: str | None = None, message: str = "", **facts: object
) -> Row:
    return Row(_ID, 1, "stack", status, 1, _AGENT, code, message, facts, 100.0, has_lease=False)


def _witness(printed: int = _RUN.lines, *, starts: int = 1, ends: int = 1) -> Witness:
    counts = dict.fromkeys(("out", "err", "ui"), printed)
    return Witness((90.0,) * starts, (95.0,) * ends, 0, counts)


def _case(row: Row | None = None, **changes: object) -> Case:
    whole = Case(_RUN, _ID, row or _row(), _log(), (), _witness(), (), _RUN.token)
    return replace(whole, **changes)  # type: ignore[arg-type]


def _hit(
    kind: str,
    *,
    killed: bool = False,
    survived: bool = False,
    kept: Mapping[str, int] | None = None,
) -> tuple[Injury, ...]:
    this, none = frozenset({_ID}), frozenset[str]()
    return (
        Injury(
            kind, 92.0, _AGENT, this, this if killed else none, this if survived else none,
            kept={_RUN.token: kept or {}},
        ),
    )  # fmt: skip


def _cancelled(kind: str = "cancel", *, at: float = 92.0) -> Injury:
    return Injury(kind, at, _AGENT, cancelled=frozenset({_ID}), over_at=at)


def _over(injuries: tuple[Injury, ...], *, at: float) -> tuple[Injury, ...]:
    return tuple(replace(injury, at=at - 1.0, over_at=at) for injury in injuries)


def _half(kind: str, code: str, message: str = "", *, stored: int, kept: int = 0) -> Case:
    """A run that was killed after it had printed four of its six lines."""
    return _case(
        _row("FAILED", code, message),
        chunks=_log(range(1, stored + 1), range(1, stored + 1), range(1, stored + 1)),
        witness=_witness(4, ends=0),
        injuries=_hit(kind, killed=True, kept=dict.fromkeys(("out", "err", "ui"), kept)),
    )


_TAIL = "the end of its output may be missing"
_FINE = {
    "untouched": _case(),
    "agent_killed_and_adopted": _case(injuries=_hit("agent-kill", survived=True)),
    "terraform_killed": _half("terraform-kill", "TERRAFORM_FAILED", stored=4),
    "pod_killed": _half("pod-kill", "AGENT_RESTARTED", _TAIL, stored=3, kept=3),
    "pod_killed_and_torn": replace(
        _half("pod-kill", "AGENT_RESTARTED", _TAIL, stored=3),
        chunks=_chunks(("STDOUT", _line("out", 1) + _line("out", 2)[:-7])),
    ),
    "pod_killed_and_tail_said_in_the_log": replace(
        _half("pod-kill", "AGENT_RESTARTED", stored=3),
        chunks=_log([1], [1], [1], system=f"{_TAIL}\n"),
    ),
    "pod_killed_after_a_success_whose_gap_is_told": _case(
        _row(lost_log_bytes=600),
        chunks=_log(range(1, 5), range(1, 5), range(1, 5), "600 bytes of output are missing\n"),
        injuries=_hit("disk-full") + _over(_hit("pod-kill"), at=102.0),
    ),
    "pod_killed_with_output_that_nobody_had_read": _case(
        chunks=_log([1], [1], [1], system=f"{_TAIL}\n"), injuries=_hit("pod-kill", killed=True),
    ),
    "broken_in_two_by_terraform": _case(
        chunks=_chunks(
            ("STDERR", "".join(_line("err", n) for n in _ALL)),
            ("STDOUT", "".join(_line("out", n) for n in range(1, 6))),
            ("STDOUT", "".join(_line("ui", n) for n in range(1, 6)) + _line("ui", 6)[:20] + "\n"),
            ("STDOUT", _line("out", 6)),
            ("STDOUT", "terraform_data.printer (local-exec): " + _line("ui", 6)[20:]),
        ),
    ),
    "pod_killed_before_it_applied": _case(
        _row("FAILED", "AGENT_RESTARTED"),
        chunks=(), witness=Witness(), injuries=_hit("pod-kill", killed=True),
    ),
    "interrupted": _half("agent-interrupt", "AGENT_SHUTDOWN", stored=4),
    "no_control_plane_before_the_apply": _case(
        _row("FAILED", "CONTROL_PLANE_LOST"),
        chunks=(), witness=Witness(), injuries=(Injury("gateway-kill", 92.0),),
    ),
    "late_and_dead": replace(
        _half("pod-outage", "AGENT_LOST_DURING_APPLY", _TAIL, stored=3, kept=3),
        row=_row("FAILED", "AGENT_LOST_DURING_APPLY", _TAIL, late_result={"status": "FAILED"}),
    ),
    "late": _case(
        _row("FAILED", "AGENT_LOST_DURING_APPLY", late_result={"status": "SUCCESS"}),
        injuries=_hit("agent-silence"),
    ),
    "disk_full_and_said": _case(
        _row("FAILED", "TERRAFORM_FAILED", lost_log_bytes=50),
        chunks=_log([1, 2, 5], [1, 6], [4], system="[50 bytes of output are missing: …]\n"),
        injuries=_hit("disk-full"),
    ),
    "cancelled_while_it_waited": _case(
        _row("CANCELLED"), chunks=(), witness=Witness(), injuries=(_cancelled(),)
    ),
    "cancelled_while_it_ran": _case(
        _row("CANCELLED", "CANCELLED"),
        chunks=_log(range(1, 5), range(1, 5), range(1, 4)),
        witness=_witness(4, ends=0), injuries=(_cancelled(),),
    ),
    "cancelled_as_it_came_to_its_end": _case(injuries=(_cancelled(at=94.9),)),
    "cancelled_while_its_agent_was_away": _case(
        injuries=(_cancelled(at=50.0), *_over(_hit("agent-pause"), at=45.0)),
    ),
    "orphaned_by_an_interrupt": _case(
        _row("FAILED", "AGENT_SHUTDOWN", lock={"state": "ORPHANED"}),
        witness=_witness(4, ends=0), injuries=_hit("agent-interrupt"),
    ),
    "orphaned": _case(
        _row("FAILED", "PROCESS_LOST", lock={"state": "ORPHANED"}),
        witness=_witness(4, ends=0), injuries=_hit("terraform-kill", killed=True),
    ),
}  # fmt: skip

_PLANTED: dict[str, tuple[Broken, Case]] = {
    "not_in_the_database": (Broken.LOST, replace(_case(), row=None)),
    "failed_though_nothing_was_done": (Broken.LOST, _case(_row("FAILED", "TERRAFORM_FAILED"))),
    "failed_by_an_outage_in_its_apply": (
        Broken.LOST,
        _case(_row("FAILED", "CONTROL_PLANE_LOST"), injuries=(Injury("gateway-kill", 92.0),)),
    ),
    "failed_since_another_was_interrupted": (
        Broken.LOST,
        _case(
            _row("FAILED", "AGENT_SHUTDOWN"),
            injuries=(replace(_hit("agent-interrupt")[0], agent_id="another"),),
        ),
    ),
    "failed_since_terraform_was_paused": (
        Broken.LOST,
        _case(_row("FAILED", "TERRAFORM_FAILED"), injuries=_hit("terraform-pause")),
    ),
    "silent_though_its_pod_returned": (
        Broken.LOST,
        _case(_row("FAILED", "AGENT_LOST_DURING_APPLY", _TAIL),
              injuries=_hit("pod-kill", killed=True)),
    ),
    "failed_with_another_code": (
        Broken.LOST, _case(_row("FAILED", "INTERNAL"), injuries=_hit("pod-kill", killed=True))
    ),
    "silent_without_a_late_result": (
        Broken.LOST,
        _case(_row("FAILED", "AGENT_LOST_DURING_APPLY"), injuries=_hit("agent-silence")),
    ),
    "never_ended": (Broken.STUCK, _case(_row("PROCESSING"))),
    "never_begun": (Broken.STUCK, _case(_row("QUEUED"))),
    "a_lease_is_left": (Broken.STUCK, _case(replace(_row(), has_lease=True))),
    "applied_twice": (Broken.TWICE, _case(witness=_witness(starts=2))),
    "two_at_once": (Broken.TWICE, _case(witness=replace(_witness(), overlaps=1))),
    "two_attempts_printed": (
        Broken.TWICE, _case(chunks=_log() + _log([1], [1], [1], attempt=2))
    ),
    "not_adopted": (
        Broken.NOT_ADOPTED,
        _case(_row("FAILED", "AGENT_LOST_DURING_APPLY"),
              injuries=_hit("agent-kill", survived=True)),
    ),
    "a_line_is_missing": (Broken.LOG_LOST, _case(chunks=_log([1, 2, 4, 5, 6]))),
    "the_last_line_is_missing": (Broken.LOG_LOST, _case(chunks=_log(err=range(1, 6)))),
    "all_lines_are_missing": (Broken.LOG_LOST, _case(chunks=())),
    "a_character_is_missing": (
        Broken.LOG_LOST,
        _case(chunks=_chunks(*[(c.stream, c.text.replace("0 é", "é", 1)) for c in _log()])),
    ),
    "a_character_was_cut": (
        Broken.LOG_LOST,
        _case(chunks=_chunks(*[(c.stream, c.text.replace("漢", "\ufffd", 1)) for c in _log()])),
    ),
    "a_chunk_is_missing": (Broken.LOG_LOST, _case(chunks=_log()[:1] + _log()[2:])),
    "an_offset_is_wrong": (
        Broken.LOG_LOST, _case(chunks=(*_log()[:3], replace(_log()[3], byte_offset=9)))
    ),
    "chunks_were_refused": (Broken.LOG_LOST, _case(_row(undelivered_log_chunks=1))),
    "a_gap_without_a_full_disk": (Broken.LOG_LOST, _case(_row(lost_log_bytes=5))),
    "a_gap_that_is_not_said": (
        Broken.LOG_LOST, _case(chunks=_log([1, 2, 5, 6]), injuries=_hit("disk-full"))
    ),
    "what_had_left_a_killed_terraform": (
        Broken.LOG_LOST, _half("terraform-kill", "TERRAFORM_FAILED", stored=3)
    ),
    "what_was_on_disk_of_a_killed_pod": (
        Broken.LOG_LOST, _half("pod-kill", "AGENT_RESTARTED", _TAIL, stored=3, kept=4)
    ),
    "a_tail_that_nobody_speaks_of": (
        Broken.TAIL_UNSAID, _half("pod-kill", "AGENT_RESTARTED", "submit again", stored=3)
    ),
    "a_success_that_speaks_of_no_tail": (
        Broken.TAIL_UNSAID,
        _case(chunks=_log([1], [1], [1]), injuries=_hit("pod-kill", killed=True)),
    ),
    "short_though_the_pod_died_after_the_success": (
        Broken.LOG_LOST,
        _case(chunks=_log([1], [1], [1]), injuries=_over(_hit("pod-kill"), at=102.0)),
    ),
    "a_line_comes_again": (Broken.LOG_DOUBLED, _case(chunks=_log([1, 2, 3, 3, 4, 5, 6]))),
    "a_stretch_comes_again": (
        Broken.LOG_DOUBLED, _case(chunks=_log(ui=[1, 2, 3, 2, 3, 4, 5, 6]))
    ),
    "doubled_around_a_gap": (
        Broken.LOG_DOUBLED,
        _case(_row(lost_log_bytes=5), chunks=_log([1, 2, 2, 6]), injuries=_hit("disk-full")),
    ),
    "orphaned_though_nothing_was_killed": (
        Broken.ORPHANED,
        _case(_row("FAILED", "PROCESS_LOST", lock={"state": "ORPHANED"}),
              injuries=_hit("agent-kill", survived=True)),
    ),
    "orphaned_and_alive": (
        Broken.ORPHANED,
        _case(_row("FAILED", "PROCESS_LOST", lock={"state": "ORPHANED"}),
              witness=replace(_witness(), ends=(101.0,)),
              injuries=_hit("terraform-kill", killed=True)),
    ),
    "success_without_an_apply": (Broken.UNTRUE, _case(witness=_witness(starts=0, ends=0))),
    "success_that_did_not_end": (Broken.UNTRUE, _case(witness=_witness(ends=0))),
    "cancelled_by_another_code": (
        Broken.LOST, _case(_row("CANCELLED", "INTERNAL"), injuries=(_cancelled(),))
    ),
    "failed_since_it_was_cancelled": (
        Broken.LOST, _case(_row("FAILED", "TERRAFORM_FAILED"), injuries=(_cancelled(),))
    ),
    "cancelled_with_lines_lost": (
        Broken.LOG_LOST,
        _case(_row("CANCELLED", "CANCELLED"), chunks=_log([1], [1], [1]),
              witness=_witness(4, ends=0), injuries=(_cancelled(),)),
    ),
    "cancelled_and_applied_all_the_same": (Broken.UNHEEDED, _case(injuries=(_cancelled(at=70.0),))),
    "applied_after_it_was_cancelled": (
        Broken.UNTRUE,
        _case(_row("CANCELLED"), witness=replace(_witness(), starts=(101.0,)),
              injuries=(_cancelled(),)),
    ),
    "cancelled_by_nobody": (Broken.UNTRUE, _case(_row("CANCELLED"))),
}  # fmt: skip


@pytest.mark.parametrize("name", _FINE)
def test_nothing_is_found_where_nothing_is_broken(name: str) -> None:
    assert judge(_FINE[name]) == []


@pytest.mark.parametrize("name", _PLANTED)
def test_a_planted_violation_is_found(name: str) -> None:
    broken, case = _PLANTED[name]
    assert broken in {violation.broken for violation in judge(case)}


def test_every_rule_has_a_plant_of_its_own() -> None:
    found = {
        rule: [name for name, (_, case) in _PLANTED.items() if [*rule(case)]] for rule in RULES
    }
    assert [rule.__name__ for rule, names in found.items() if not names] == []


def test_every_kind_of_violation_is_planted_or_comes_from_the_rest() -> None:
    rest = judge_rest(["agent ended by itself"], ["123 terraform apply"], [8, 9])
    planted = {broken for broken, _ in _PLANTED.values()}
    assert planted | {violation.broken for violation in rest} == set(Broken)
    assert [violation.run for violation in rest] == [None, None, 8, 9]
    assert judge_rest([], [], []) == []


def test_the_state_is_that_of_the_last_apply() -> None:
    earlier = _case(witness=replace(_witness(), starts=(50.0,)), state=_RUN.token)
    later = replace(_case(state=_RUN.token), run=replace(_RUN, number=8))
    assert [v.broken for v in judge_stack([earlier, later])] == [Broken.UNTRUE]
    assert judge_stack([earlier, replace(later, state="run0008")]) == []
    assert judge_stack([earlier, replace(later, row=_row("FAILED"))]) == []
    assert judge_stack([_case(witness=Witness())]) == []
