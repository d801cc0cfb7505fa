"""``grape completion``: what a shell needs to complete grape's commands and options."""

import argparse

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.errors import TendrilError

_SHELLS = ("bash", "zsh", "tcsh")


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    completion = commands.add_parser(
        "completion", parents=[common], help='print a script: eval "$(grape completion bash)"'
    )
    completion.add_argument("shell", choices=_SHELLS)
    completion.set_defaults(run=_completion)


async def _completion(arguments: argparse.Namespace, desk: Desk) -> int:
    try:
        import shtab
    except ImportError as exc:
        raise TendrilError(
            "completion needs one more package (shtab): pip install 'tendril-rt[grape]'"
        ) from exc
    from tendril_rt.cli.grape import parser  # late: it imports us

    print(shtab.complete(parser(), arguments.shell), file=desk.output.out)
    return 0
