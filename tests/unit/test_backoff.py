"""Delays are uniform over a window that doubles up to a cap."""

from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.aio.backoff import Backoff


def _widest(_: float, width: float) -> float:
    return width


def _narrowest(start: float, _: float) -> float:
    return start


def test_the_window_doubles_up_to_its_cap() -> None:
    backoff = Backoff(0.5, 3.0, uniform=_widest)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full_so_a_delay_may_be_nothing() -> None:
    backoff = Backoff(0.5, 3.0, uniform=_narrowest)
    assert [backoff.next_s() for _ in range(3)] == [0.0, 0.0, 0.0]


def test_no_delay_is_shorter_than_the_floor() -> None:
    backoff = Backoff(1.0, 30.0, floor_s=0.5, uniform=_narrowest)
    assert backoff.next_s() == 0.5


def test_a_success_starts_again_with_the_first_window() -> None:
    backoff = Backoff(1.0, 60.0, uniform=_widest)
    for _ in range(4):
        backoff.next_s()
    assert backoff.failures == 4
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next_s() == 1.0


def test_years_of_failures_neither_overflow_nor_leave_the_cap() -> None:
    backoff = Backoff(0.5, 15.0, uniform=_widest)
    for _ in range(5_000):
        last = backoff.next_s()
    assert last == 15.0


@given(initial_s=st.floats(0.01, 10), maximum_s=st.floats(0.01, 100), failures=st.integers(1, 100))
def test_by_default_every_delay_lies_within_the_cap(
    initial_s: float, maximum_s: float, failures: int
) -> None:
    backoff = Backoff(initial_s, maximum_s)
    assert all(0 <= backoff.next_s() <= maximum_s for _ in range(failures))
