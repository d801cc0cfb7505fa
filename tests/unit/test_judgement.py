"""A path is deaf when what it must bring does not come, and only then."""

import math
from itertools import pairwise

import pytest

from tendril_rt.control.judgement import Offer, PathJudge
from tendril_rt.control.push import Cure, Path

SPACING_S = 60.0
SPACING_MAX_S = 3600.0


def judge(*, is_exact: bool = False, ready_at: float | None = 0.0) -> PathJudge:
    made = PathJudge(is_exact=is_exact, spacing_s=SPACING_S, spacing_max_s=SPACING_MAX_S)
    if ready_at is not None:
        made.became_ready(ready_at)
    return made


def test_what_was_expected_and_came_is_not_missed() -> None:
    path = judge()
    path.expect("pulse", since=10, due=15)
    assert not path.heard(12)
    assert path.missed(20) == ()
    assert not path.is_deaf


def test_what_did_not_come_in_time_is_missed_once() -> None:
    path = judge()
    path.expect("pulse", since=10, due=15)
    assert path.missed(14.9) == ()
    assert path.next_look_at == 15
    assert path.missed(15) == ("pulse",)
    assert path.is_deaf
    assert path.missed(16) == ()


def test_an_echo_may_come_before_the_answer_it_is_expected_after() -> None:
    path = judge()
    path.heard(10.5)
    path.expect("pulse", since=10, due=16)
    assert path.missed(20) == ()


def test_what_was_heard_before_it_could_happen_does_not_count() -> None:
    path = judge()
    path.heard(9.9)
    path.expect("pulse", since=10, due=15)
    assert path.missed(15) == ("pulse",)


def test_an_exact_path_is_held_to_each_name() -> None:
    path = judge(is_exact=True)
    path.expect("p1", since=1, due=4)
    path.expect("p2", since=1, due=4)
    path.heard(2, "p2")
    assert path.missed(4) == ("p1",)


def test_an_exact_path_may_announce_long_before_the_claim() -> None:
    path = judge(is_exact=True)
    path.heard(2, "p1")
    path.expect("p1", since=1, due=900)
    assert path.next_look_at == math.inf


def test_an_announcement_without_a_name_meets_every_expectation() -> None:
    path = judge(is_exact=True)
    path.expect("p1", since=1, due=4)
    path.heard(2)
    assert path.missed(4) == ()


@pytest.mark.parametrize("since", [4.9, 0.0])
def test_what_happened_before_readiness_is_not_judged(since: float) -> None:
    path = judge(ready_at=5)
    path.expect("p1", since=since, due=10)
    assert path.missed(10) == ()


def test_a_path_that_is_not_ready_is_not_judged_by_what_it_brings() -> None:
    path = judge(ready_at=None)
    path.expect("p1", since=1, due=4)
    assert path.missed(10) == ()


def test_readiness_is_expected_too() -> None:
    path = judge(ready_at=None)
    path.joined(ready_by=15)
    assert path.next_look_at == 15
    assert path.missed(14) == ()
    (what,) = path.missed(15)
    assert "ready" in what
    assert path.missed(16) == ()


def test_said_in_time_readiness_is_not_missed() -> None:
    path = judge(ready_at=None)
    path.joined(ready_by=15)
    path.became_ready(3)
    assert path.missed(20) == ()


def test_readiness_said_again_changes_nothing() -> None:
    path = judge(ready_at=1)
    path.became_ready(50)
    path.expect("p1", since=40, due=43)
    assert path.missed(43) == ("p1",)


def test_a_token_swap_excuses_what_was_and_what_happens_during_it() -> None:
    path = judge()
    path.expect("before", since=9, due=14)
    path.excuse(until=15)
    path.expect("during", since=14.9, due=18)
    path.expect("after", since=15, due=19)
    assert path.missed(30) == ("after",)


def test_a_session_that_closes_takes_its_expectations_along() -> None:
    path = judge()
    path.expect("p1", since=1, due=4)
    path.closed()
    assert path.missed(10) == ()
    path.expect("p2", since=11, due=14)
    assert path.next_look_at == math.inf


def test_the_oldest_names_are_forgotten_and_then_not_judged() -> None:
    path = judge(is_exact=True)
    for number in range(2000):
        path.heard(number, f"p{number}")
    path.expect("p0", since=0, due=5000)  # heard long ago, but who remembers?
    path.expect("p1999", since=1999, due=5000)
    path.expect("unheard", since=1999, due=5000)
    assert path.missed(5000) == ("unheard",)


def _miss(path: PathJudge, now: float) -> None:
    path.expect("pulse", since=now - 5, due=now)
    assert path.missed(now) == ("pulse",)


def test_the_first_cure_is_a_token_and_the_second_a_session() -> None:
    path = judge()
    _miss(path, 10)
    assert path.cure(10) is Cure.TOKEN
    assert path.cure(11) is None  # once for each miss
    _miss(path, 20)
    assert path.cure(20) is Cure.SESSION


def test_cures_get_rarer_but_never_stop() -> None:
    path = judge()
    now, cured_at = 10.0, []
    while now < 100_000:
        _miss(path, now)
        if path.cure(now) is not None:
            cured_at.append(now)
        now += 30
    gaps = [later - earlier for earlier, later in pairwise(cured_at[1:])]
    assert gaps[0] == SPACING_S
    assert gaps == sorted(gaps)
    assert gaps[-1] == SPACING_MAX_S


def test_a_cure_that_has_to_wait_says_when_to_look() -> None:
    path = judge()
    for now in (10, 20, 30):
        _miss(path, now)
        path.cure(now)
    assert path.next_look_at == 20 + SPACING_S
    assert path.cure(20 + SPACING_S) is Cure.SESSION


def test_what_is_heard_heals_and_the_ladder_starts_again() -> None:
    path = judge()
    for now in (10, 20):
        _miss(path, now)
        path.cure(now)
    assert path.heard(21)
    assert not path.is_deaf
    assert not path.heard(22)
    _miss(path, 40)
    assert path.cure(40) is Cure.TOKEN


def test_deafness_outlives_its_session_and_readiness_alone_does_not_heal() -> None:
    path = judge()
    _miss(path, 10)
    path.cure(10)
    path.closed()
    path.became_ready(12)
    assert path.is_deaf
    _miss(path, 20)
    assert path.cure(20) is Cure.SESSION


# --- what is offered ------------------------------------------------------------------------------

BOTH = frozenset(Path)
DENIED = "Unauthorized: You do not have permissions to read from this Channel topic: cluster:x"
FAILED = "postgres_changes: Unable to subscribe to changes with given parameters"


def test_everything_is_asked_for_until_something_is_refused() -> None:
    assert Offer(3600).paths(0) == BOTH


def test_a_refused_path_is_left_out_for_a_while() -> None:
    offer = Offer(3600)
    refusal = offer.refusal(DENIED, BOTH, 100)
    assert refusal is not None
    assert (refusal.path, refusal.again, refusal.retry_in_s) == (Path.BROADCAST, False, 3600)
    assert offer.paths(3699) == {Path.CHANGES}
    assert offer.ask_again_at == 3700
    assert offer.paths(3700) == BOTH
    assert offer.ask_again_at == math.inf


def test_refused_again_is_told_apart_until_it_worked() -> None:
    offer = Offer(10)
    offer.refusal(DENIED, BOTH, 0)
    again = offer.refusal(DENIED, BOTH, 20)
    assert again is not None
    assert again.again
    offer.confirm(Path.BROADCAST)
    anew = offer.refusal(DENIED, BOTH, 40)
    assert anew is not None
    assert not anew.again


def test_an_error_of_changes_counts_only_twice_in_a_row() -> None:
    offer = Offer(3600)
    assert offer.refusal(FAILED, BOTH, 0) is None
    offer.confirm(Path.CHANGES)
    assert offer.refusal(FAILED, BOTH, 0) is None
    refusal = offer.refusal(FAILED, BOTH, 0)
    assert refusal is not None
    assert refusal.path is Path.CHANGES
    assert offer.paths(1) == {Path.BROADCAST}


def test_the_last_path_is_never_given_up() -> None:
    offer = Offer(3600)
    offer.refusal(DENIED, BOTH, 0)
    left = offer.paths(1)
    assert offer.refusal(FAILED, left, 1) is None
    assert offer.refusal(FAILED, left, 1) is None
    assert offer.paths(2) == BOTH


@pytest.mark.parametrize(
    "reason",
    [
        "the connection was lost",
        "JwtSignatureError: Failed to validate JWT signature",
        "ClientJoinRateLimitReached: Too many joins per second",
    ],
)
def test_other_failures_refuse_nothing(reason: str) -> None:
    offer = Offer(3600)
    assert offer.refusal(reason, BOTH, 0) is None
    offer.refusal(DENIED, BOTH, 0)
    assert offer.refusal(reason, frozenset({Path.CHANGES}), 1) is None
    assert offer.paths(2) == {Path.CHANGES}
