"""A count with a ceiling."""

import pytest

from tendril_rt.agent.slots import Slots


def test_slots_are_free_up_to_the_capacity() -> None:
    slots = Slots(2)
    assert slots.has_free
    slots.take()
    assert slots.has_free
    slots.take()
    assert not slots.has_free
    assert slots.used == 2


def test_a_slot_given_back_is_free_again() -> None:
    slots = Slots(1)
    slots.take()
    slots.give_back()
    assert slots.has_free
    assert slots.used == 0


def test_taking_more_than_there_are_is_a_programming_error() -> None:
    slots = Slots(1)
    slots.take()
    with pytest.raises(AssertionError):
        slots.take()
