"""The figures of ``bench.claims``, from its rounds: medians, ratios, and what must not happen."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from bench.claims_writes import Writes
from bench.frame import Report

#: What the design demands.
BOUNDS = {
    "claims_per_s_8": (">=", 200.0),
    "claim_p99_ms_8": ("<=", 60.0),
    "ratio_to_same_rows_8": (">=", 0.5),
    "ratio_to_pgqueuer_8": (">=", 1.0),
    "ratio_to_procrastinate_8": (">=", 1.0),
    "growth_1k_to_1m": ("<=", 1.5),
    "growth_10k_leases": ("<=", 1.5),
    "violations": ("<=", 0.0),
}
_SIZES = {"1k": "1k", "100k": "100k", "1M": "1M", "leases": "100k, 10k leases"}


@dataclass(frozen=True)
class Cell:
    """What was run: whose claim, by how many agents, on one cluster or many, at which size."""

    contestant: str
    agents: int
    spread: str
    size: str

    @property
    def key(self) -> str:
        """Start of its keys in the JSON file."""
        return _key(f"{self.contestant} {self.spread} {self.size} {self.agents}")


@dataclass(frozen=True)
class Round:
    """One run of a cell.

    :ivar twice: claims of what was claimed before
    :ivar empty: claims that found nothing, though the queue was long
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    twice: int
    empty: int


Rounds: TypeAlias = Mapping[Cell, Sequence[Round]]
Figure: TypeAlias = Callable[[Round], float]

_FIGURES: dict[str, Figure] = {
    "per_s": lambda one: one.per_s,
    "p50_ms": lambda one: one.p50_ms,
    "p99_ms": lambda one: one.p99_ms,
}


@dataclass(frozen=True)
class Measured:
    """Everything.

    :ivar wal_of_empty_polls: bytes, of 200
    :ivar stored_per_provision: bytes on disk, indexes included; so is the next
    :ivar stored_per_log_byte: bytes on disk for one of log
    """

    rounds: Rounds
    writes: Mapping[str, Writes]
    wal_of_empty_polls: int
    stored_per_provision: float
    stored_per_log_byte: float


def report(measured: Measured, cpus: int) -> None:
    """Print everything and write the JSON file."""
    result = Report("claims", f"What the bounds are about, and writes, on {cpus} CPUs")
    _table(measured.rounds, result)
    _headline(measured.rounds, result)
    for name, calls in measured.writes.items():
        result.add(f"{_key(name)}s_per_s", calls.per_s, f"{name}, 8 agents", "/s")
        result.add(f"wal_per_{_key(name)}_bytes", calls.wal_bytes, f"WAL per {name}", "bytes")
    if measured.writes:  # else no log was stored
        row, byte = measured.stored_per_provision, measured.stored_per_log_byte
        result.add("stored_per_provision_bytes", row, "a row stored", "bytes")
        result.add("stored_per_log_byte", byte, "a byte of log stored", "bytes")
    ours = [
        one
        for cell, rounds in measured.rounds.items()
        if cell.contestant.startswith("ours")
        for one in rounds
    ]
    twice, empty = sum(one.twice for one in ours), sum(one.empty for one in ours)
    wal = measured.wal_of_empty_polls
    result.add("wal_of_empty_polls_bytes", wal, "WAL of 200 empty polls", "bytes")
    result.add("claimed_twice", twice, "provisions claimed twice", "")
    result.add("found_nothing", empty, "claims that missed what was queued", "")
    _add(result, "violations", twice + empty + (wal > 0), "violations", "")
    result.finish()


def _headline(rounds: Rounds, result: Report) -> None:
    def at(contestant: str = "ours", size: str = "100k") -> Cell:
        return Cell(contestant, 8, "one", size)

    for suffix, cell in (("", at()), ("_in_requests", at("ours, in requests"))):
        what = f"{cell.contestant}, 8 agents, one cluster, 100k queued"
        claims, p50, p99 = (_median(rounds[cell], figure) for figure in _FIGURES.values())
        _add(result, f"claims_per_s_8{suffix}", claims, what, "/s")
        _add(result, f"claim_p50_ms_8{suffix}", p50, f"{what}, p50", "ms")
        _add(result, f"claim_p99_ms_8{suffix}", p99, f"{what}, p99", "ms")
    for rival in ("same rows", "two rows", "bare", "PgQueuer", "Procrastinate"):
        ratio = _ratio(rounds, at(), at(rival))
        _add(result, f"ratio_to_{_key(rival)}_8", ratio, f"claims/s there, ours / {rival}", "x")
    ratio = _ratio(rounds, at("ours, in requests"), at("same rows, in requests"))
    what = "claims/s there, ours / same rows, in requests"
    _add(result, "ratio_to_same_rows_8_in_requests", ratio, what, "x")
    for key, few, much, what in (
        ("growth_1k_to_1m", "1k", "1M", "1k to 1M queued"),
        ("growth_10k_leases", "100k", "leases", "0 to 10k live leases elsewhere"),
    ):
        growth = _ratio(rounds, at(size=few), at(size=much))
        _add(result, key, growth, f"growth of the time per claim, {what}", "x")


def _add(result: Report, key: str, value: float, what: str, unit: str) -> None:
    """Record a figure; say what is demanded of it, if anything is, and whether it misses that."""
    if key in BOUNDS:
        sign, bound = BOUNDS[key]
        kept = value >= bound if sign == ">=" else value <= bound
        what += f" ({sign} {bound:g}{'' if kept else ': MISSED'})"
    result.add(key, value, what, unit)


def _median(rounds: Sequence[Round], figure: Figure) -> float:
    return statistics.median(figure(one) for one in rounds)


def _ratio(rounds: Rounds, over: Cell, under: Cell) -> float:
    """Return the median, over the rounds, of one cell's rate over another's in the same round."""
    pairs = zip(rounds[over], rounds[under], strict=True)
    return statistics.median(one.per_s / other.per_s for one, other in pairs)


def _table(rounds: Rounds, result: Report) -> None:
    """Print a line for each contestant, size and spread; record every cell."""
    counts = sorted({cell.agents for cell in rounds})
    print("claims/s (p50 / p99 in ms), medians of the rounds, beside 1M finished\n")
    heads = "".join(f"{f'{count} agents':>27}" for count in counts)
    print(f"  {'clusters':<9}{'queued':<18}{'claim':<23}{heads}")
    cells = sorted(rounds, key=lambda cell: (cell.spread == "many", list(_SIZES).index(cell.size)))
    for spread, size, contestant in dict.fromkeys(
        (cell.spread, cell.size, cell.contestant) for cell in cells
    ):
        line = f"  {spread:<9}{_SIZES[size]:<18}{contestant:<23}"
        for count in counts:
            cell = Cell(contestant, count, spread, size)
            line += f"{_entry(cell, rounds[cell], result) if cell in rounds else '':>27}"
        print(line.rstrip())


def _entry(cell: Cell, rounds: Sequence[Round], result: Report) -> str:
    values = {name: _median(rounds, figure) for name, figure in _FIGURES.items()}
    result.figures.update({f"{cell.key}_{name}": value for name, value in values.items()})
    return f"{values['per_s']:,.0f}  ({values['p50_ms']:.1f} / {values['p99_ms']:.1f})"


def _key(text: str) -> str:
    return text.replace(",", "").replace(" ", "_").lower()
