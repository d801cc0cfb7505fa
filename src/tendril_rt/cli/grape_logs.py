"""``grape logs``: a provision's log, exactly as it is stored; live with ``-f``."""

import argparse

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk, provision_named
from tendril_rt.cli.watching import exit_code, print_chunk, watch
from tendril_rt.control import tail
from tendril_rt.errors import Rejected


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    logs = commands.add_parser("logs", parents=[common], help="print a provision's log")
    logs.add_argument("provision", nargs="?", help="its id (default: the newest)")
    how = logs.add_mutually_exclusive_group()
    how.add_argument("-f", "--follow", action="store_true", help="until it has ended")
    how.add_argument("--attempt", type=int, metavar="N", help="of this attempt alone")
    logs.set_defaults(run=_logs)


async def _logs(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        provision_id = await provision_named(user, arguments.provision)
        if arguments.follow:
            return exit_code(await watch(desk, user, provision_id, shows_log=True))
        state = await user.provision(provision_id)
        if state is None:
            raise Rejected(f"you have no provision {provision_id}: grape provisions list")
        first = arguments.attempt or 0
        last = arguments.attempt or state.attempt
        async for row in tail.chunks(user, provision_id, first, up_to=last):
            print_chunk(desk.output, row)
    return 0
