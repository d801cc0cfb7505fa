"""Following one provision in a terminal: its status changes and its log, with times."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

import anyio

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.cli.terminal import harmless
from tendril_rt.control import tail
from tendril_rt.control.owner import LogRow, Owner, ProvisionState
from tendril_rt.errors import Unavailable
from tendril_rt.model import ProvisionId, Status, StreamType

_INTERVAL_S = 0.2
_COLOURS = {
    Status.SUCCESS: "\x1b[32m",
    Status.FAILED: "\x1b[31m",
    Status.CANCELLED: "\x1b[33m",
}


@dataclass
class Screen:
    """Where lines go; colour, and what no terminal should obey left out, only on a terminal.

    :ivar started_at: the clock's reading that counts as 0.00 s
    """

    out: TextIO = sys.stdout
    clock: Callable[[], float] = anyio.current_time
    started_at: float = 0.0
    _shown: Status | None = None
    _partial: dict[StreamType, str] = field(default_factory=dict)

    def start(self) -> None:
        """Make now the time 0.00 s, of another provision."""
        self.started_at = self.clock()
        self._shown = None

    def state(self, state: ProvisionState) -> None:
        """Print a change of status, and those before it that nobody saw."""
        if self._shown is None:  # it may have been claimed before the first look
            self.status(Status.QUEUED)
        elif state.status is Status.QUEUED:
            self.status(Status.QUEUED, "again: its agent went silent")
        if state.attempt and (state.status is Status.PROCESSING or self._shown is Status.QUEUED):
            self.status(Status.PROCESSING, f"attempt {state.attempt}")
        if state.status.is_terminal:
            self.finish()
            self.status(state.status, state.error_message or "")

    def status(self, status: Status, note: str = "") -> None:
        """Print a change of status."""
        self._shown = status
        name = status.value.lower()
        note = self._fit(note)
        if self.out.isatty():
            name = f"{_COLOURS.get(status, '')}{name}\x1b[0m"
        self._print(f"● {name}{f'  {note}' if note else ''}")

    def log(self, row: LogRow) -> None:
        """Print the whole lines of a chunk; keep the rest until its line ends."""
        if self._shown is Status.QUEUED:
            self.status(Status.PROCESSING, f"attempt {row.attempt}")
        text = self._partial.pop(row.stream, "") + row.text
        *lines, rest = text.split("\n")
        for line in lines:
            self._print(f"  {'·' if row.stream is StreamType.SYSTEM else '│'} {self._fit(line)}")
        if rest:
            self._partial[row.stream] = rest

    def finish(self) -> None:
        """Print what has no line end."""
        for rest in self._partial.values():
            self._print(f"  │ {self._fit(rest)}")
        self._partial.clear()

    def _fit(self, text: str) -> str:
        """Return *text* as it is for a file or a pipe, harmless for a terminal."""
        return harmless(text) if self.out.isatty() else text

    def _print(self, text: str) -> None:
        print(f"{self.clock() - self.started_at:7.2f} s  {text}", file=self.out, flush=True)


def _say_that_it_waits(exc: Unavailable) -> None:
    print(f"waiting: {harmless(str(exc), colours=False)}", file=sys.stderr)


async def follow(owner: Owner, provision_id: ProvisionId, screen: Screen) -> ProvisionState:
    """Print until the provision has ended; return how.

    A control plane that does not answer is waited for.

    :raises Rejected: the provision does not exist for this owner
    """
    listener = tail.Listener(
        on_state=screen.state,
        on_chunk=screen.log,
        on_outage=lambda exc: print(
            f"waiting: {harmless(str(exc), colours=False)}", file=sys.stderr
        ),
    )
    return await tail.follow(
        owner, provision_id, listener, news=Wakeup(), interval_s=lambda: _INTERVAL_S
    )
