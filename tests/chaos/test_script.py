"""The schedule depends on its seed alone, and a short one meets every kind."""

from collections import Counter

from tests.chaos.script import KINDS, Moment, Target, schedule

_ALL = list(KINDS)


def test_a_seed_repeats_its_schedule() -> None:
    assert schedule(5, 40, _ALL, 2) == schedule(5, 40, _ALL, 2)
    assert schedule(5, 40, _ALL, 2) != schedule(6, 40, _ALL, 2)


def test_every_kind_is_dealt_once_before_any_comes_twice() -> None:
    for seed in range(20):
        dealt = [strike.kind for run in schedule(seed, 30, _ALL, 2) for strike in run.strikes]
        assert set(dealt[: len(_ALL)]) == set(_ALL)


def test_kinds_come_up_by_weight_and_only_those_asked_for() -> None:
    some = ["agent-kill", "postgres-kill"]
    dealt = Counter(strike.kind for run in schedule(1, 600, some, 2) for strike in run.strikes)
    assert set(dealt) == set(some)
    assert 1.8 < dealt["agent-kill"] / dealt["postgres-kill"] < 2.2


def test_strikes_keep_to_the_bounds_of_their_kind() -> None:
    for run in schedule(3, 300, _ALL, 2):
        assert run.burst <= run.lines
        for strike in run.strikes:
            shortest, longest = KINDS[strike.kind].lasts_s
            assert shortest <= strike.lasts_s <= longest
            if KINDS[strike.kind].target is Target.TERRAFORM:
                assert strike.moment in (Moment.CLAIMED, Moment.PRINTING)


def test_runs_share_stacks_within_their_cluster_only() -> None:
    runs = schedule(4, 100, _ALL, 2)
    clusters: dict[str, set[int]] = {}
    for run in runs:
        clusters.setdefault(run.stack, set()).add(run.cluster)
    assert all(len(members) == 1 for members in clusters.values())
    assert 10 < len(clusters) < 70
    assert len({run.token for run in runs}) == len(runs)
