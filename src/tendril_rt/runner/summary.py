"""What Terraform says of its own work while it is read: counts of resources, and a lock it met.

A tap on the stream: sees bytes as they are read, keeps at most a line of each stream and one block
of a few lines. Costs nothing beside the run, where ``show -json`` would cost seconds and print
secrets. OpenTofu says the same. Pure.
"""

import re
from collections.abc import Mapping

from tendril_rt.model import StreamType

_LINE_BYTES = 1024  # what is longer is none of Terraform's own lines
_BLOCK_LINES = 24
_COUNT = re.compile(r"(\d+)(?: to)? (add|import|change|destroy)(?:ed|d)?\b")
_SUMMARIES = ("Plan: ", "Apply complete! Resources: ", "Destroy complete! Resources: ")
_NOTHING = ("No changes.", "You can apply this plan to save these new output values")
_FRAME = "│╷╵ "
_LOCK_BLOCK = "Error: Error acquiring the state lock"


class Summary:
    """Of one step after another: :meth:`begin` forgets the last one."""

    def __init__(self) -> None:
        self._rest = {StreamType.STDOUT: b"", StreamType.STDERR: b""}
        self._counts: dict[str, int] | None = None
        self._lock_lines: list[str] | None = None
        self._is_applying = False

    def begin(self) -> None:
        """Forget what the step before said."""
        self._rest = dict.fromkeys(self._rest, b"")
        self._counts = None
        self._lock_lines = None

    def see(self, stream: StreamType, view: memoryview) -> None:
        """Take in bytes of a stream; *view* is not kept."""
        *lines, rest = (self._rest[stream] + view).split(b"\n")
        self._rest[stream] = rest[: _LINE_BYTES + 1]
        for line in lines:
            if len(line) <= _LINE_BYTES:
                text = line.decode(errors="replace")
                if stream is StreamType.STDOUT:
                    self._see_stdout(text)
                else:
                    self._see_stderr(text)

    @property
    def resources(self) -> Mapping[str, int] | None:
        """``add``, ``change`` and ``destroy``, with ``import`` if there was any; None if unsaid."""
        return self._counts

    @property
    def lock_block(self) -> str | None:
        """What Terraform said when it did not get the state's lock, from there on."""
        return None if self._lock_lines is None else "\n".join(self._lock_lines)

    def _see_stdout(self, line: str) -> None:
        if self._counts is not None:  # the first counts: what follows may be an output's value
            return
        if line.startswith(_SUMMARIES):
            counts = {name: int(number) for number, name in _COUNT.findall(line)}
            self._counts = {"add": 0, "change": 0, "destroy": 0} | counts
        elif line.startswith(_NOTHING):
            self._counts = {"add": 0, "change": 0, "destroy": 0}

    def _see_stderr(self, line: str) -> None:
        said = line.lstrip(_FRAME)
        if self._lock_lines is None:
            if said.startswith(_LOCK_BLOCK):
                self._lock_lines = []
        elif len(self._lock_lines) < _BLOCK_LINES:
            self._lock_lines.append(said)
