"""What the modules ``grape_<verb>`` share with the parser that they add themselves to."""

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import argparse

    Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
else:
    Commands = object


def actions(commands: Commands, name: str, help_text: str) -> Commands:
    """Add a command that has actions of its own, such as ``clusters list``; return where to."""
    parser = commands.add_parser(name, help=help_text)
    return parser.add_subparsers(dest="action", required=True, metavar="action")
