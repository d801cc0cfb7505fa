"""Following a log: everything once and in order, whatever comes late, twice or not at all."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control import tail
from tendril_rt.control.owner import LogRow, ProvisionState
from tendril_rt.errors import Rejected, Unavailable
from tendril_rt.model import ProvisionId, Status, StreamType

ID = ProvisionId("00000000-0000-4000-8000-000000000001")
PAGE = 2


def _state(status: Status, attempt: int) -> ProvisionState:
    return ProvisionState(status, attempt, None, None, "", None, None)


@dataclass
class Script:
    """A control plane that goes on by one step whenever it is asked for the state."""

    steps: list[Callable[["Script"], None]]
    state: ProvisionState = field(default_factory=lambda: _state(Status.QUEUED, 0))
    stored: dict[int, list[str]] = field(default_factory=dict)
    is_away: bool = False

    async def provision(self, provision_id: ProvisionId) -> ProvisionState | None:
        if self.steps:
            self.steps.pop(0)(self)
        if self.is_away:
            raise Unavailable("away")
        return self.state

    async def logs(
        self, provision_id: ProvisionId, *, attempt: int, after_seq: int
    ) -> list[LogRow]:
        texts = self.stored.get(attempt, [])
        return [
            LogRow(attempt, seq, StreamType.STDOUT, text)
            for seq, text in enumerate(texts)
            if after_seq < seq <= after_seq + PAGE
        ]


def _moves(status: Status, attempt: int, *texts: str) -> Callable[[Script], None]:
    """Return a step: chunks are stored, then the state is another."""

    def step(script: Script) -> None:
        script.is_away = False
        script.stored.setdefault(attempt, []).extend(texts)
        script.state = _state(status, attempt)

    return step


def _goes_away(script: Script) -> None:
    script.is_away = True


async def _followed(script: Script) -> tuple[list[str], ProvisionState]:
    told: list[str] = []
    listener = tail.Listener(
        on_state=lambda state: told.append(f"{state.status.value} {state.attempt}"),
        on_chunk=lambda row: told.append(f"{row.attempt}.{row.seq} {row.text}"),
        on_outage=lambda exc: told.append(str(exc)),
    )
    end = await tail.follow(script, ID, listener, news=Wakeup(), interval_s=lambda: 0.001)
    return told, end


async def test_every_chunk_is_told_once_in_order_between_the_states() -> None:
    script = Script(
        [
            _moves(Status.QUEUED, 0),
            _moves(Status.PROCESSING, 1, "a"),
            _moves(Status.PROCESSING, 1),
            _moves(Status.PROCESSING, 1, "b", "c", "d", "e"),
            _moves(Status.SUCCESS, 1, "f"),
        ]
    )
    told, end = await _followed(script)
    assert end.status is Status.SUCCESS
    assert told == [
        "QUEUED 0",
        "PROCESSING 1",
        *("1.0 a", "1.1 b", "1.2 c", "1.3 d", "1.4 e", "1.5 f"),
        "SUCCESS 1",
    ]


async def test_an_attempt_that_was_lost_is_told_whole_before_the_next() -> None:
    def late(script: Script) -> None:
        script.stored[1] += ["b", "c"]  # delivered just before the next attempt was claimed
        _moves(Status.PROCESSING, 3, "x")(script)

    script = Script([_moves(Status.PROCESSING, 1, "a"), late, _moves(Status.FAILED, 3, "y")])
    told, _ = await _followed(script)
    assert told == [
        *("PROCESSING 1", "1.0 a"),
        *("PROCESSING 3", "1.1 b", "1.2 c", "3.0 x"),
        *("3.1 y", "FAILED 3"),
    ]


async def test_an_outage_loses_and_doubles_nothing() -> None:
    script = Script(
        [
            _moves(Status.PROCESSING, 1, "a", "b"),
            _goes_away,
            _goes_away,
            _moves(Status.SUCCESS, 1, "c"),
        ]
    )
    told, _ = await _followed(script)
    assert told == ["PROCESSING 1", "1.0 a", "1.1 b", "away", "away", "1.2 c", "SUCCESS 1"]


async def test_what_has_ended_before_the_first_look_is_told_as_it_is_stored() -> None:
    told, _ = await _followed(Script([_moves(Status.CANCELLED, 2, "a", "b", "c")]))
    assert told == ["2.0 a", "2.1 b", "2.2 c", "CANCELLED 2"]


async def test_a_provision_that_is_not_there_is_refused() -> None:
    class Empty(Script):
        async def provision(self, provision_id: ProvisionId) -> ProvisionState | None:
            return None

    with pytest.raises(Rejected, match="there is no provision"):
        await _followed(Empty([]))
