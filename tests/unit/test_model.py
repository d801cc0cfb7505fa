"""The legal moves of a provision."""

from dataclasses import FrozenInstanceError

import pytest

from tendril_rt.model import LEGAL_MOVES, AgentId, Lease, Phase, ProvisionId, Status


def test_every_status_says_where_it_may_go() -> None:
    assert set(LEGAL_MOVES) == set(Status)


def test_success_failed_and_cancelled_are_terminal_and_nothing_else_is() -> None:
    assert {status for status in Status if status.is_terminal} == {
        Status.SUCCESS,
        Status.FAILED,
        Status.CANCELLED,
    }


def test_nothing_ends_without_having_run_but_a_cancelled_provision() -> None:
    assert {status for status in LEGAL_MOVES[Status.QUEUED] if status.is_terminal} == {
        Status.CANCELLED
    }


def test_no_status_moves_to_itself() -> None:
    assert all(status not in moves for status, moves in LEGAL_MOVES.items())


def test_a_newer_attempt_is_another_lease() -> None:
    first = Lease(ProvisionId("p"), 1, AgentId("a"))
    assert first == Lease(ProvisionId("p"), 1, AgentId("a"))
    assert first != Lease(ProvisionId("p"), 2, AgentId("a"))
    assert len({first: Phase.PLAN, Lease(ProvisionId("p"), 1, AgentId("a")): Phase.APPLY}) == 1


def test_a_lease_cannot_be_changed() -> None:
    lease = Lease(ProvisionId("p"), 1, AgentId("a"))
    with pytest.raises(FrozenInstanceError):
        lease.attempt = 2  # type: ignore[misc]
