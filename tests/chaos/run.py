"""One run of chaos: schedule, scene, strikes, judgement; and what is said of it at the end."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import orjson
from bench.frame import machine

from tests.chaos import clock, processes, scene, script
from tests.chaos.conductor import Conductor
from tests.chaos.disk import can_mount
from tests.chaos.evidence import Case
from tests.chaos.judge import Broken, Violation, judge, judge_rest, judge_stack
from tests.chaos.scene import CLUSTERS
from tests.chaos.script import Run, Strike


@dataclass
class Result:
    """What came of one run.

    :ivar struck: by kind, how many strikes hurt something; *missed*: found nothing to hurt
    :ivar adoptable: provisions whose Terraform was alive when its agent alone was killed; and
        *adopted*: those of them that are a SUCCESS
    :ivar outcomes: by status and error code, how many provisions
    """

    seed: int
    runs: int
    kinds: Sequence[str]
    struck: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    adoptable: int = 0
    adopted: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    duration_s: float = 0.0
    folder: Path | None = None

    def table(self) -> str:
        """Return what a person reads."""
        lines = [f"chaos: {self.runs} runs, seed {self.seed}, {self.duration_s:.0f} s", ""]
        lines += [f"  {'inflicted':<18}{'times':>6}{'missed':>8}"]
        for kind in script.KINDS.values():
            if kind.name in self.kinds:
                times, missed = self.struck[kind.name], self.missed[kind.name]
                lines += [f"  {kind.name:<18}{times:>6}{missed:>8}   {kind.says}"]
            else:
                lines += [f"  {kind.name:<18}{'left out':>14}"]
        lines += ["", "  outcomes"]
        lines += [f"  {outcome:<40}{n:>6}" for outcome, n in sorted(self.outcomes.items())]
        lines += [f"  adoptable runs: {self.adoptable}, of which a SUCCESS: {self.adopted}"]
        lines += ["", "  violations"]
        counts = Counter(violation.broken for violation in self.violations)
        lines += [f"  {broken.value:<45}{counts[broken]:>6}" for broken in Broken]
        lines += [f"  run {v.run}: {v.broken.value}: {v.says}" for v in self.violations]
        if self.violations:
            lines += ["", f"  repeat with: {self.repeat}", f"  what is left: {self.folder}"]
        return "\n".join(lines)

    @property
    def repeat(self) -> str:
        return f"make chaos N={self.runs} SEED={self.seed} KINDS={','.join(self.kinds)}"

    def as_json(self) -> bytes:
        """Return what a program reads."""
        counts = Counter(violation.broken for violation in self.violations)
        content = {
            "runs": self.runs,
            "seed": self.seed,
            "repeat": self.repeat,
            "violations": len(self.violations),
            "violations_by_kind": {broken.name.lower(): counts[broken] for broken in Broken},
            "struck": {kind: self.struck[kind] for kind in self.kinds},
            "missed": {kind: self.missed[kind] for kind in self.kinds},
            "adoptable": self.adoptable,
            "adopted": self.adopted,
            "outcomes": self.outcomes,
            "details": [{**asdict(v), "broken": v.broken.name.lower()} for v in self.violations],
            "duration_s": round(self.duration_s, 1),
            "machine": machine(),
        }
        return orjson.dumps(content, option=orjson.OPT_INDENT_2)


def left_out() -> dict[str, str]:
    """Return the kinds that cannot be inflicted on this machine, each with the reason."""
    reasons = {}
    with tempfile.TemporaryDirectory() as folder:
        if not can_mount(Path(folder)):
            reasons["disk-full"] = "this user may not mount a small tmpfs"
    if clock.library() is None:
        for kind in script.KINDS.values():
            if kind.target is script.Target.CLOCK:
                reasons[kind.name] = (
                    "libfaketime is not installed (on Debian: apt install faketime)"
                )
    return reasons


async def chaos(
    runs: int, seed: int, kinds: Sequence[str], *, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Inflict *runs* runs and judge them; the folder is kept if anything is broken."""
    result = Result(seed, runs, kinds)
    began_at = time.monotonic()

    def struck(run: Run, strike: Strike, hurt: bool) -> None:
        (result.struck if hurt else result.missed)[strike.kind] += 1
        seconds = time.monotonic() - began_at
        progress(f"{seconds:6.1f} s  run {run.number:3}  {strike.kind}{'' if hurt else ': missed'}")

    result.folder = Path(tempfile.mkdtemp(prefix="tendril-chaos-"))
    clocks = [kind for kind in kinds if script.KINDS[kind].target is script.Target.CLOCK]
    faketime = clock.library() if clocks else None
    async with scene.running(
        result.folder, small_disks="disk-full" in kinds, faketime=faketime
    ) as stage:
        conductor = Conductor(stage, struck)
        await conductor.perform(script.schedule(seed, runs, kinds, CLUSTERS))
        found = await conductor.evidence()
    rest = judge_rest(stage.surprises(), _left_running(result.folder), conductor.postponed)
    result.violations = [*_judged(found), *rest]
    result.outcomes = Counter(_outcome(case) for case in found)
    adoptable = [case for case in found if _is_adoptable(case)]
    result.adoptable = len(adoptable)
    result.adopted = sum(
        case.row is not None and case.row.status == "SUCCESS" for case in adoptable
    )
    result.duration_s = time.monotonic() - began_at
    if result.violations:
        _keep(result, found)
    else:
        shutil.rmtree(result.folder)
    return result


def _keep(result: Result, found: Sequence[Case]) -> None:
    """Write down what is known of each provision that something is broken about."""
    assert result.folder is not None
    broken = {violation.run for violation in result.violations}
    for case in found:
        if case.run.number in broken:
            touching = [injury for injury in case.injuries if injury.touches(case.provision_id)]
            content = asdict(replace(case, injuries=tuple(touching)))
            text = orjson.dumps(content, option=orjson.OPT_INDENT_2, default=sorted)
            (result.folder / f"{case.run.token}.json").write_bytes(text)


def _judged(found: Sequence[Case]) -> list[Violation]:
    stacks: dict[str, list[Case]] = {}
    for case in found:
        stacks.setdefault(case.run.stack, []).append(case)
    return [
        *(violation for case in found for violation in judge(case)),
        *(violation for members in stacks.values() for violation in judge_stack(members)),
    ]


def _is_adoptable(case: Case) -> bool:
    """Tell whether its Terraform outlived its agent, with nobody asking for its end."""
    return any(case.provision_id in injury.survived for injury in case.injuries) and not any(
        case.provision_id in injury.cancelled for injury in case.injuries
    )


def _left_running(folder: Path) -> list[str]:
    return [f"{process.pid} {process.command}" for process in processes.within(folder)]


def _outcome(case: Case) -> str:
    if case.row is None:
        return "absent"
    again = f" in attempt {case.row.attempt}" if case.row.attempt > 1 else ""
    if "late_result" in case.row.execution_metadata:
        again += ", with late_result"
    return f"{case.row.status} {case.row.error_code or ''}".strip() + again
