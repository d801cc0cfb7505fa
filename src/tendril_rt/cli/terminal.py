"""What every command does about the terminal that it prints to."""

import io
import re
import sys

_COLOUR = r"\x1b\[[0-9;:]*m"
_CONTROL = re.compile(
    rf"(?P<colour>{_COLOUR})"
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, clipboards, links, questions
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # cursor movements, erasing, modes
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    r"|[\u202a-\u202e\u2066-\u2069]"  # text that reads otherwise than it is written
)
_PLAIN = "\x1b[0m"


def survive_narrow_terminals() -> None:
    """Replace what the terminal's encoding does not have, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def harmless(line: str, *, colours: bool = True) -> str:
    """Return *line* without what would command a terminal; pure.

    Text of templates, of servers and of programs may hold escape sequences that change what was
    printed before, the title, the clipboard, or make a terminal type answers. Colours stay, and end
    with the line; so do tabs and line feeds.
    """
    shown = _CONTROL.sub(lambda found: (colours and found["colour"]) or "", line)
    return f"{shown}{_PLAIN}" if "\x1b" in shown else shown
