"""``grape bootstrap``: from no cloud to a managed cluster (docs/bootstrap.md)."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial

import anyio.to_thread

from tendril_rt.bootstrap import journal, phases
from tendril_rt.bootstrap.phases import Site, Step
from tendril_rt.bootstrap.plan import Request
from tendril_rt.cli import bootstrap_request
from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.cli.exits import DONE
from tendril_rt.cli.output import Output
from tendril_rt.errors import ConfigError


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    bootstrap = commands.add_parser(
        "bootstrap", parents=[common], help="make a cluster in AWS, with an agent in it"
    )
    bootstrap_request.add(bootstrap)
    bootstrap.add_argument("--dry-run", action="store_true", help="print every action, do none")
    bootstrap.add_argument("--yes", action="store_true", help="ask nothing")
    bootstrap.add_argument("--destroy", action="store_true", help="remove all that was made")
    bootstrap.add_argument("--confirm", metavar="NAME", help="its name, for --destroy")
    bootstrap.set_defaults(run=_bootstrap)


async def _bootstrap(arguments: argparse.Namespace, desk: Desk) -> int:
    bootstrap_request.forget_empty_profile()
    request = bootstrap_request.read(arguments, desk)
    steps = phases.UNDO if arguments.destroy else phases.STEPS
    if arguments.dry_run:
        _print_actions(request, steps, desk.output)
        return DONE
    if arguments.destroy:
        await _confirm_name(request.name, arguments)
    with journal.opened(request.folder) as noted:
        async with AsyncExitStack() as holding:
            owner = await holding.enter_async_context(desk.account.owner())
            site = Site(
                request,
                owner,
                noted,
                desk.output,
                partial(_confirm, arguments.yes or arguments.destroy),
                holding,
            )
            await phases.carry_out(site, steps)
    if not arguments.destroy:
        _print_result(site, desk.output)
    return DONE


def _print_actions(request: Request, steps: Sequence[Step], output: Output) -> None:
    actions = phases.actions(request, steps)
    if output.as_json:
        output.json({"name": request.name, "actions": actions})
        return
    print(f"{request.name}: nothing is done, this would be:", file=output.out)
    for number, action in enumerate(actions, 1):
        print(f"{number}. {action['step']}: {action['action']}", file=output.out)


def _print_result(site: Site, output: Output) -> None:
    facts = {
        "name": site.request.name,
        "cluster_id": site.cluster_id,
        "agent_id": site.agent_id,
        "status": "ONLINE",
        "kubeconfig": str(site.kubeconfig),
        "identity": asdict(site.identity) if site.identity else None,
    }
    if output.as_json:
        output.json(facts)
        return
    print(f"cluster {facts['name']} ({facts['cluster_id']}) is ONLINE", file=output.out)
    output.note(
        f"Its kubeconfig: {site.kubeconfig}\nFrom here on the agent does the work: grape deploy "
        f"<file> --cluster {site.request.name}"
    )


async def _confirm(is_agreed: bool, question: str) -> bool:
    if is_agreed:
        return True
    answer = await _ask(
        f"{question}\nGo on? (yes/no) ", "--yes is needed where nobody can be asked"
    )
    return answer.strip().lower() in ("y", "yes")


async def _confirm_name(name: str, arguments: argparse.Namespace) -> None:
    given = name if arguments.yes else arguments.confirm
    if given is None:
        otherwise = f"--destroy needs --confirm {name!r} where nobody can be asked"
        given = await _ask(f"This destroys all of {name}. Type its name to go on: ", otherwise)
    if given.strip() != name:
        raise ConfigError(f"{given!r} is not {name!r}: nothing was destroyed")


async def _ask(question: str, otherwise: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError(otherwise)
    return await anyio.to_thread.run_sync(input, question, abandon_on_cancel=True)
