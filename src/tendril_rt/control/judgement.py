"""Is a path deaf, is it offered at all, and how long is it wise to wait?

A path is judged by what it should have brought, and cured at widening intervals.
Pure: no clock, no socket; the caller says what time it is (monotonic seconds). Invariants: a path
is judged only by what happened after it said that it is ready and outside a token swap; one thing
heard clears it of everything; cures never come faster than the spacing allows, however deaf it is.
"""

import math
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tendril_rt.aio.backoff import Backoff
from tendril_rt.control.push import Cure, Path, PathRefused

#: How a private join is refused where there is nothing for us to hear (NotOffered: by our gateway).
_NO_BROADCAST = ("Unauthorized", "NotOffered", "UnableToSetPolicies")
_CHANGES_ERROR = f"{Path.CHANGES.value}: "
_REMEMBERED = 1024  # announced ids; a provision may wait long in the queue before it is claimed


@dataclass(frozen=True, slots=True)
class Expected:
    """Something that the path must bring.

    :ivar what: an id where ids are heard, else what people call it
    :ivar since: not before this time can it have happened
    :ivar due: when it counts as missed
    """

    what: str
    since: float
    due: float


class PathJudge:
    """Judges one path over all sessions.

    :param is_exact: an expectation is met only by hearing its own name; else by whatever is heard
        after it began
    :param spacing_s: between the second cure and the third; doubles up to *spacing_max_s*
    """

    def __init__(self, *, is_exact: bool, spacing_s: float, spacing_max_s: float) -> None:
        self._is_exact = is_exact
        self._spacing_s = spacing_s
        self._spacing_max_s = spacing_max_s
        self._ready_by = math.inf
        self._judged_from = math.inf
        self._heard_at = -math.inf
        self._names: OrderedDict[str, float] = OrderedDict()
        self._expected: list[Expected] = []
        self._needs_cure = False
        self._next_cure_at = -math.inf
        self.is_ready = False
        self.is_deaf = False
        self.cures = 0

    @property
    def next_look_at(self) -> float:
        """When :meth:`missed` or :meth:`cure` may have something new to say."""
        due = min((one.due for one in self._expected), default=math.inf)
        cure_at = self._next_cure_at if self._needs_cure else math.inf
        return min(due, self._ready_by, cure_at)

    def joined(self, *, ready_by: float) -> None:
        """Expect the path to be ready by then."""
        self._ready_by = ready_by

    def became_ready(self, now: float) -> None:
        """Judge by what happens from *now* on. Said again after each token swap: no news then."""
        self._ready_by = math.inf
        if not self.is_ready:
            self.is_ready = True
            self._judged_from = now

    def closed(self) -> None:
        """Forget the session; deafness and cures stay, until something is heard."""
        self.is_ready = False
        self._ready_by = self._judged_from = math.inf
        self._needs_cure = False
        self._expected.clear()

    def excuse(self, until: float) -> None:
        """Judge by nothing that happens before *until*: a token swap may lose it."""
        self._expected.clear()
        self._judged_from = max(self._judged_from, until)

    def expect(self, what: str, *, since: float, due: float) -> None:
        """Expect *what*, unless it was heard, or happened when nobody could expect it."""
        one = Expected(what, since, due)
        if self.is_ready and since >= self._judged_from and not self._was_heard(one):
            self._expected.append(one)

    def heard(self, now: float, name: str | None = None) -> bool:
        """Note that the path brought something; return True if it was deaf until then.

        :param name: None meets every expectation: it cannot be told which
        """
        if name is not None:
            self._remember(name, now)
        self._heard_at = now
        self._expected = [
            one for one in self._expected if name is not None and not self._was_heard(one)
        ]
        was_deaf = self.is_deaf
        self.is_deaf = self._needs_cure = False
        self.cures = 0
        self._next_cure_at = -math.inf
        return was_deaf

    def missed(self, now: float) -> tuple[str, ...]:
        """Return what is overdue, each only once. From then on the path is deaf."""
        overdue = tuple(one.what for one in self._expected if one.due <= now)
        self._expected = [one for one in self._expected if one.due > now]
        if self._ready_by <= now:
            self._ready_by = math.inf
            overdue += ("its message that it is ready",)
        if overdue:
            self.is_deaf = self._needs_cure = True
        return overdue

    def cure(self, now: float) -> Cure | None:
        """Return what to try now, if it is time. The first is cheap; they never stop."""
        if not self._needs_cure or now < self._next_cure_at:
            return None
        self._needs_cure = False
        self.cures += 1
        if self.cures > 1:
            widened = self._spacing_s * 2.0 ** min(self.cures - 2, 62)
            self._next_cure_at = now + min(self._spacing_max_s, widened)
        return Cure.TOKEN if self.cures == 1 else Cure.SESSION

    def _was_heard(self, one: Expected) -> bool:
        return one.what in self._names if self._is_exact else self._heard_at >= one.since

    def _remember(self, name: str, now: float) -> None:
        self._names[name] = now
        if len(self._names) > _REMEMBERED:
            _, forgotten_at = self._names.popitem(last=False)
            # Whatever is older can no longer be judged.
            self._judged_from = max(self._judged_from, forgotten_at)


class Offer:
    """Which paths the project offers, as far as its refusals told.

    :param refused_s: until a refused path is asked for again
    """

    def __init__(self, refused_s: float) -> None:
        self._refused_s = refused_s
        self._refused_until: dict[Path, float] = {}
        self._refused_before: set[Path] = set()
        self._changes_failures = 0

    @property
    def ask_again_at(self) -> float:
        """When a fresh session may have more paths than this one."""
        return min(self._refused_until.values(), default=math.inf)

    def paths(self, now: float) -> frozenset[Path]:
        """Return the paths to ask for: all but those that were refused a while ago."""
        self._refused_until = {path: at for path, at in self._refused_until.items() if at > now}
        return frozenset(Path) - self._refused_until.keys()

    def confirm(self, path: Path) -> None:
        """Note that *path* got ready."""
        self._refused_before.discard(path)
        if path is Path.CHANGES:
            self._changes_failures = 0

    def refusal(self, reason: str, paths: frozenset[Path], now: float) -> PathRefused | None:
        """Return which of *paths* a session is to be had without, when it failed for *reason*.

        An error of ``postgres_changes`` counts only when it comes twice in a row: it may as well be
        Postgres restarting. The last path is never given up: then everything is asked for again.
        """
        if reason.startswith(_NO_BROADCAST):
            refused = Path.BROADCAST
        elif reason.startswith(_CHANGES_ERROR):
            refused = Path.CHANGES
            self._changes_failures += 1
            if self._changes_failures < 2:
                return None
        else:
            return None
        if paths == {refused}:
            self._refused_until.clear()
            return None
        again = refused in self._refused_before
        self._refused_before.add(refused)
        self._refused_until[refused] = now + self._refused_s
        return PathRefused(refused, reason, self._refused_s, again)


class Patience:
    """How long to wait before the next session.

    When a server goes, everybody who listened to it comes back: the first try after a session that
    lasted is spread over about a poll's interval, which polling bridges. Later tries back off.

    :param stable_s: READY for so long counts as a session that lasted
    :param spread_s: width of that first window
    :param rate_limit_s: least wait after a rate limit, up to twice that
    """

    def __init__(
        self,
        *,
        backoff: Backoff,
        stable_s: float,
        spread_s: float,
        rate_limit_s: float,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._backoff = backoff
        self._stable_s = stable_s
        self._spread_s = spread_s
        self._rate_limit_s = rate_limit_s
        self._uniform = uniform

    def next_s(self, *, ready_s: float, is_rate_limit: bool) -> float:
        """Return the seconds to wait after a session that was READY for *ready_s* seconds."""
        if ready_s >= self._stable_s:
            self._backoff.reset()
            delay_s = self._uniform(0.0, self._spread_s)
        else:
            delay_s = self._backoff.next_s()
        if is_rate_limit:
            delay_s += self._uniform(self._rate_limit_s, 2 * self._rate_limit_s)
        return delay_s
