"""Following one provision in a terminal: its status changes and its log, with times."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

import anyio

from tendril_rt.cli.terminal import harmless
from tendril_rt.control.owner import LogRow, Owner, ProvisionState
from tendril_rt.errors import Rejected, Unavailable
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
    _partial: dict[StreamType, str] = field(default_factory=dict)

    def start(self) -> None:
        """Make now the time 0.00 s."""
        self.started_at = self.clock()

    def status(self, status: Status, note: str = "") -> None:
        """Print a change of status."""
        name = status.value.lower()
        note = self._fit(note)
        if self.out.isatty():
            name = f"{_COLOURS.get(status, '')}{name}\x1b[0m"
        self._print(f"● {name}{f'  {note}' if note else ''}")

    def log(self, row: LogRow) -> None:
        """Print the whole lines of a chunk; keep the rest until its line ends."""
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


async def follow(owner: Owner, provision_id: ProvisionId, screen: Screen) -> ProvisionState:
    """Print until the provision has ended; return how.

    A control plane that does not answer is waited for.

    :raises Rejected: the provision does not exist for this owner
    """
    shown: Status | None = None
    attempt, seq = 0, -1
    while True:
        try:
            state = await owner.provision(provision_id)
            if state is None:
                raise Rejected(f"there is no provision {provision_id} for this user")
            if shown is None:  # it may have been claimed before the first look
                shown = Status.QUEUED
                screen.status(shown)
            if state.attempt != attempt:
                attempt, seq = state.attempt, -1
                shown = Status.PROCESSING
                screen.status(shown, f"attempt {attempt}")
            elif state.status is Status.QUEUED and shown is Status.PROCESSING:
                shown = Status.QUEUED
                screen.status(shown, "again: its agent went silent")
            seq = await _print_logs(owner, provision_id, attempt, seq, screen)
        except Unavailable as exc:
            print(f"waiting: {harmless(str(exc), colours=False)}", file=sys.stderr)
        else:
            if state.status.is_terminal:  # its log is complete: the last chunk came before
                screen.finish()
                screen.status(state.status, state.error_message or "")
                return state
        await anyio.sleep(_INTERVAL_S)


async def _print_logs(
    owner: Owner, provision_id: ProvisionId, attempt: int, seq: int, screen: Screen
) -> int:
    while attempt:
        rows = await owner.logs(provision_id, attempt=attempt, after_seq=seq)
        for row in rows:
            screen.log(row)
            seq = row.seq
        if not rows:
            break
    return seq
