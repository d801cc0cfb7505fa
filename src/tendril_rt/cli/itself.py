"""How this program is started again: from a checkout, a wheel or a built binary.

The only place that knows ``sys.executable``. A built binary (PyInstaller) is its own interpreter
and has no modules to name; the one-file kind moreover runs below a parent, its bootloader.
"""

import sys
from pathlib import Path
from typing import Literal

Program = Literal["tendril", "grape"]

_MODULES: dict[Program, str] = {"tendril": "tendril_rt.cli.main", "grape": "tendril_rt.cli.grape"}
_SIGNAL_ECHO_S = 0.5


def is_frozen() -> bool:
    """Tell whether this is a built binary."""
    return bool(getattr(sys, "frozen", False))


def unpack_folder() -> Path | None:
    """Return where a one-file binary unpacked itself for this run; None for everything else."""
    folder = Path(getattr(sys, "_MEIPASS", ""))
    return folder if is_frozen() and folder.name.startswith("_MEI") else None


def argv_of(program: Program, *arguments: str) -> list[str]:
    """Return how to start one of our own programs with *arguments*."""
    if is_frozen():
        return [sys.executable, *(() if program == "tendril" else (program,)), *arguments]
    return [*module(_MODULES[program]), *arguments]


def module(name: str) -> list[str]:
    """Return how to run a module, which a built binary cannot."""
    return [sys.executable, "-m", name]


def beside(program: Program) -> Path | None:
    """Return the command of that name beside this one, if there is one."""
    path = Path(sys.executable).with_name(program)
    return path if path.exists() else None


def signal_echo_s() -> float:
    """Return for how long a repeated signal may be an echo of the first, in seconds.

    A terminal, or systemd, signals a one-file binary's parent and the agent itself; the parent then
    hands its own on, so that the agent gets two for one.
    """
    return _SIGNAL_ECHO_S if unpack_folder() else 0.0
