"""``grape dashboard``: the dashboard of the project, served on loopback or written out."""

import argparse
from pathlib import Path

import anyio
import anyio.to_thread

from tendril_rt.aio.signals import cancelled_by_signals
from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.cli.output import Column
from tendril_rt.local.dashboard import files, server

_URL = (Column("dashboard", "url"),)


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    dashboard = commands.add_parser(
        "dashboard", parents=[common], help="serve the dashboard on this machine, until Ctrl-C"
    )
    dashboard.add_argument("--port", type=int, default=0, help="default: a free one")
    dashboard.add_argument(
        "--export", metavar="FOLDER", help="write its files there, for a static host of your own"
    )
    dashboard.set_defaults(run=_dashboard)


async def _dashboard(arguments: argparse.Namespace, desk: Desk) -> int:
    project = desk.account.project()
    target = files.Target(project.url, project.api_key)
    if arguments.export is not None:
        await anyio.to_thread.run_sync(files.export, Path(arguments.export), target)
        desk.output.note(f"written to {arguments.export}")
        return 0
    async with cancelled_by_signals(), server.serving(target, port=arguments.port) as url:
        desk.output.record({"url": url}, _URL)
        desk.output.out.flush()
        desk.output.note(f"for {project.url}; Ctrl-C stops it")
        await anyio.sleep_forever()
    return 0
