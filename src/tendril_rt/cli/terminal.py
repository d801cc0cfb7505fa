"""What every command does about the terminal that it prints to."""

import io
import sys


def survive_narrow_terminals() -> None:
    """Replace what the terminal's encoding does not have, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
