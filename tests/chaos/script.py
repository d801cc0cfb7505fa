"""What will be done, decided beforehand: the same seed, length and kinds make the same schedule.

Pure. When a strike really lands depends on the machine: a seed repeats the mixture of faults and
their moments in each run, not the order of events between processes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Moment(Enum):
    """What a strike waits for; its delay counts from then on."""

    QUEUED = auto()  # the provision is submitted
    CLAIMED = auto()  # an agent has it: template, init and plan are next
    PRINTING = auto()  # its apply prints
    PRINTED = auto()  # the last line is printed: state, delivery and report are next


class Target(Enum):
    """Who is struck."""

    AGENT = auto()  # the process that holds the provision, alone
    POD = auto()  # that process and all that it started
    TERRAFORM = auto()
    NETWORK = auto()  # between that agent and the control plane
    DISK = auto()  # the one that holds that agent's state directory
    CLOCK = auto()  # the wall clock that the agent reads
    PLANE = auto()  # the control plane of everybody
    OWNER = auto()  # nobody: the provision's owner wants no more of it


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault.

    :ivar lasts_s: shortest and longest time until it is undone, or the victim started again
    :ivar weight: how often it is dealt, compared with the others
    """

    name: str
    target: Target
    lasts_s: tuple[float, float]
    says: str
    weight: int = 4


KINDS = {
    kind.name: kind
    for kind in (
        Kind("agent-kill", Target.AGENT, (0.2, 3.0), "kill -9 of the agent alone; it returns"),
        Kind("agent-term", Target.AGENT, (0.2, 2.0), "SIGTERM: it drains, ends, returns"),
        Kind("agent-interrupt", Target.AGENT, (0.2, 2.0), "SIGTERM twice: it interrupts"),
        Kind("agent-pause", Target.AGENT, (0.5, 6.0), "SIGSTOP, then SIGCONT"),
        Kind("agent-silence", Target.AGENT, (42.0, 46.0), "SIGSTOP beyond the verdict", weight=1),
        Kind("pod-kill", Target.POD, (0.2, 3.0), "kill -9 of the agent and all that it started"),
        Kind("pod-outage", Target.POD, (42.0, 46.0), "the same, away beyond the verdict", weight=1),
        Kind("terraform-kill", Target.TERRAFORM, (0.0, 0.0), "kill -9 of terraform"),
        Kind("terraform-term", Target.TERRAFORM, (0.0, 0.0), "SIGTERM to terraform"),
        Kind("terraform-pause", Target.TERRAFORM, (0.5, 4.0), "SIGSTOP, then SIGCONT"),
        Kind("net-cut", Target.NETWORK, (0.5, 6.0), "connections reset, new ones refused"),
        Kind("net-stall", Target.NETWORK, (0.5, 6.0), "nothing gets through either way"),
        Kind("net-deaf", Target.NETWORK, (0.5, 4.0), "requests arrive, answers are lost"),
        Kind("net-outage", Target.NETWORK, (42.0, 46.0), "cut beyond the verdict", weight=1),
        Kind("clock-forward", Target.CLOCK, (0.5, 6.0), "the agent's wall clock is a day ahead"),
        Kind("clock-back", Target.CLOCK, (0.5, 6.0), "the agent's wall clock is a day behind"),
        Kind("cancel", Target.OWNER, (0.0, 0.0), "its owner cancels it"),
        Kind("cancel-force", Target.OWNER, (0.0, 0.0), "its owner cancels it by force"),
        Kind("cancel-kill", Target.OWNER, (0.2, 3.0), "cancelled, and kill -9 of its agent"),
        Kind("disk-full", Target.DISK, (0.5, 2.0), "no byte free in the state directory"),
        Kind("gateway-kill", Target.PLANE, (0.2, 2.0), "kill -9; Postgres ends with it", weight=2),
        Kind("gateway-term", Target.PLANE, (0.2, 2.0), "SIGTERM", weight=2),
        Kind("gateway-outage", Target.PLANE, (42.0, 46.0), "kill -9; long away", weight=1),
        Kind("gateway-pause", Target.PLANE, (0.5, 5.0), "SIGSTOP, then SIGCONT", weight=2),
        Kind("postgres-kill", Target.PLANE, (0.2, 2.0), "kill -9 of the postmaster", weight=2),
        Kind("postgres-crash", Target.PLANE, (0.0, 0.0), "kill -9 of a backend", weight=2),
        Kind("postgres-pause", Target.PLANE, (0.5, 5.0), "SIGSTOP, then SIGCONT", weight=2),
    )
}
_MOMENTS = (Moment.QUEUED, Moment.CLAIMED, Moment.PRINTING, Moment.PRINTED)
_ODDS = (1, 3, 6, 2)
_TWICE = 0.5  # the odds that a run is struck a second time
_LONGEST_DELAY_S = {
    Moment.QUEUED: 1.0,
    Moment.CLAIMED: 2.0,
    Moment.PRINTING: 1.5,
    Moment.PRINTED: 0.4,
}


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault in one run."""

    kind: str
    moment: Moment
    delay_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """One provision and what is done to it.

    :ivar cluster: number of its cluster
    :ivar stack: its Terraform state; two or three runs in a row share one
    :ivar lines: printed by each of the three ways (``template/printer.sh``)
    :ivar burst: after so many lines of each it pauses *pause_s*
    """

    number: int
    cluster: int
    stack: str
    lines: int
    burst: int
    pause_s: float
    strikes: tuple[Strike, ...]

    @property
    def token(self) -> str:
        """What names it in its lines, its state and its witness."""
        return f"run{self.number:04d}"


def schedule(seed: int, runs: int, kinds: Sequence[str], clusters: int) -> list[Run]:
    """Decide everything. Each kind comes up as often as its weight says, in random order."""
    dice = random.Random(f"{seed} {runs} {' '.join(kinds)}")
    deck = _Deck(dice, kinds)
    stacks = [0] * clusters
    made = []
    for number in range(runs):
        cluster = number % clusters
        stacks[cluster] += dice.random() < 0.4
        strikes = [deck.deal() for _ in range(2 if dice.random() < _TWICE else 1)]
        is_long = dice.random() < 0.1
        pauses = dice.randint(4, 10)
        burst = dice.randint(100, 200) if is_long else dice.randint(3, 20)
        made.append(
            Run(
                number=number,
                cluster=cluster,
                stack=f"cluster{cluster}-stack{stacks[cluster]}",
                lines=burst * pauses,
                burst=burst,
                pause_s=round(dice.uniform(1.0, 3.0) / pauses, 3),
                strikes=tuple(strikes),
            )
        )
    return made


class _Deck:
    """Deals kinds: first each once, so that a short run meets them all; then by weight."""

    def __init__(self, dice: random.Random, kinds: Sequence[str]) -> None:
        self._dice = dice
        self._kinds = list(kinds)
        self._cards = dice.sample(self._kinds, len(self._kinds))

    def deal(self) -> Strike:
        if not self._cards:
            self._cards = [name for name in self._kinds for _ in range(KINDS[name].weight)]
            self._dice.shuffle(self._cards)
        kind, dice = KINDS[self._cards.pop()], self._dice
        moment = dice.choices(_MOMENTS, _ODDS)[0]
        if kind.target is Target.TERRAFORM:  # only where there is one
            moment = dice.choice((Moment.CLAIMED, Moment.PRINTING, Moment.PRINTING))
        return Strike(
            kind.name,
            moment,
            round(dice.uniform(0.0, _LONGEST_DELAY_S[moment]), 3),
            round(dice.uniform(*kind.lasts_s), 3),
        )
