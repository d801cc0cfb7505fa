"""How ``grape`` shows a provision that goes on: exactly its log, JSON lines, or its progress alone.

The log goes to stdout, byte for byte as it is stored; only a terminal is spared what would command
it.
"""

import json
import time
from dataclasses import dataclass, field

import anyio

from tendril_rt.cli.desk import Desk
from tendril_rt.cli.exits import DONE, NOT_SUCCESSFUL
from tendril_rt.cli.output import Output, span
from tendril_rt.cli.terminal import harmless
from tendril_rt.control import tail
from tendril_rt.control.news import News
from tendril_rt.control.owner import LogRow, Owner, ProvisionState
from tendril_rt.errors import Unavailable
from tendril_rt.model import ProvisionId, Status

_POLL_S = 1.0  # while nobody announces news
_SWEEP_S = 5.0  # while somebody does: what was announced may have been lost
_TICK_S = 1.0


@dataclass
class Watcher:
    """Shows one provision on *output*.

    :ivar shows_log: its log too, not only its status
    """

    output: Output
    shows_log: bool
    _state: ProvisionState | None = None
    _since: float = field(default_factory=time.monotonic)

    def state(self, state: ProvisionState) -> None:
        """Show a change of status."""
        self._state = state
        if self.output.as_json:
            return
        text = state.status.value.lower()
        if state.status is Status.PROCESSING:
            text += f", attempt {state.attempt}"
        if state.status.is_terminal and state.error_message:
            text += f": {state.error_message}"
        self.output.note(f"● {text}")

    def chunk(self, row: LogRow) -> None:
        """Show a piece of the log."""
        if not self.shows_log:
            return
        print_chunk(self.output, row)

    def outage(self, exc: Unavailable) -> None:
        """Say that it takes longer."""
        self.output.progress(f"waiting: {exc}")

    async def tick(self) -> None:
        """Show that time passes, until cancelled; not in the middle of a log."""
        while not (self.shows_log or self.output.as_json):
            if self._state is not None:
                status = self._state.status.value.lower()
                self.output.progress(f"{status}, {span(time.monotonic() - self._since)} …")
            await anyio.sleep(_TICK_S)


def print_chunk(output: Output, row: LogRow) -> None:
    """Print a chunk on stdout: as it is stored, harmless for a terminal, or as a line of JSON."""
    if output.as_json:
        line = {"attempt": row.attempt, "seq": row.seq, "stream": row.stream, "text": row.text}
        print(json.dumps(line), file=output.out, flush=True)
    elif output.out.isatty():
        print(harmless(row.text), end="", file=output.out, flush=True)
    else:  # not through the terminal's encoding, which may lack characters
        output.out.flush()
        output.out.buffer.write(row.text.encode())
        output.out.buffer.flush()


async def watch(
    desk: Desk, user: Owner, provision_id: ProvisionId, *, shows_log: bool
) -> ProvisionState:
    """Show the provision until it has ended; return how.

    Interrupted, it says how to come back: the provision goes on without us.
    """
    watcher = Watcher(desk.output, shows_log)
    listener = tail.Listener(watcher.state, watcher.chunk, watcher.outage)
    try:
        async with anyio.create_task_group() as tasks:
            news = News(desk.account.project(), desk.account.token, provision_id)
            tasks.start_soon(news.listen)
            tasks.start_soon(watcher.tick)
            state = await tail.follow(
                user,
                provision_id,
                listener,
                news=news.changed,
                interval_s=lambda: _SWEEP_S if news.is_ready else _POLL_S,
            )
            tasks.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        desk.output.note(
            f"\ndetached: provision {provision_id} goes on. Follow it again: grape logs -f "
            f"{provision_id}; stop it: grape provisions cancel {provision_id}"
        )
        raise
    return state


def exit_code(state: ProvisionState) -> int:
    """Return the exit code that tells how a provision ended."""
    return DONE if state.status is Status.SUCCESS else NOT_SUCCESSFUL
