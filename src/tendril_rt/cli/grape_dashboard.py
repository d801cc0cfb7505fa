"""``grape dashboard``: the dashboard's static files, served on loopback."""

import argparse

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.errors import TendrilError


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    dashboard = commands.add_parser(
        "dashboard", parents=[common], help="serve the dashboard on this machine"
    )
    dashboard.set_defaults(run=_dashboard)


async def _dashboard(arguments: argparse.Namespace, desk: Desk) -> int:
    raise TendrilError("this installation has no dashboard")
