"""``grape deploy``: queue a provision, of a saved configuration or of a file."""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk, cluster_named, configuration_named
from tendril_rt.cli.output import Column
from tendril_rt.cli.watching import exit_code, watch
from tendril_rt.control.owner import Owner
from tendril_rt.control.signing import read_signer
from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import ConfigError
from tendril_rt.model import ClusterId, Operation


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    deploy = commands.add_parser("deploy", parents=[common], help="queue a provision")
    deploy.add_argument(
        "what", help="a JSON file (a path that exists), else a saved configuration's name or id"
    )
    deploy.add_argument("--cluster", metavar="NAME", help="where (default: GRAPE_CLUSTER)")
    operation = deploy.add_mutually_exclusive_group()
    operation.add_argument("--plan", action="store_true", help="plan only, change nothing")
    operation.add_argument("--destroy", action="store_true", help="destroy what it made")
    deploy.add_argument(
        "--confirm", metavar="NAME", help="with --destroy: what would be asked for, typed here"
    )
    until = deploy.add_mutually_exclusive_group()
    until.add_argument("--wait", action="store_true", help="until it has ended, with progress")
    until.add_argument("--follow", action="store_true", help="the same, and print its log")
    deploy.add_argument(
        "--sign-with",
        metavar="KEY",
        help="sign it with the key in this file (default: GRAPE_SIGNING_KEY; without: not signed)",
    )
    deploy.add_argument(
        "--valid-for",
        metavar="HOURS",
        type=_hours,
        default=24.0,
        help="how long the signature holds (default 24; 0: for ever)",
    )
    deploy.set_defaults(run=_deploy)


@dataclass(frozen=True)
class _Request:
    """What is to be deployed. *name* is what must be typed before it is destroyed."""

    name: str
    text: str
    cluster_id: ClusterId
    configuration_id: str | None = None


async def _deploy(arguments: argparse.Namespace, desk: Desk) -> int:
    operation = Operation.APPLY
    if arguments.plan or arguments.destroy:
        operation = Operation.PLAN if arguments.plan else Operation.DESTROY
    key = arguments.sign_with or desk.environ.get("GRAPE_SIGNING_KEY")
    signer = read_signer(Path(key)) if key else None
    not_after = int(time.time() + arguments.valid_for * 3600) if arguments.valid_for else 0
    text = _text_of(Path(arguments.what))
    async with desk.account.owner() as user:
        request = await _request(user, arguments, desk, text)
        if operation is Operation.DESTROY:
            await _confirm(request.name, arguments.confirm)
        provision_id = await user.create_provision(
            request.cluster_id,
            request.text,
            operation=operation,
            configuration_id=request.configuration_id,
            signer=signer,
            not_after=not_after,
        )
        if not (arguments.wait or arguments.follow):
            queued = {"provision_id": provision_id, "status": "QUEUED"}
            desk.output.record(queued, (Column("queued provision", "provision_id"),))
            return 0
        desk.output.note(f"queued provision {provision_id}")
        state = await watch(desk, user, provision_id, shows_log=arguments.follow)
        if desk.output.as_json and not arguments.follow:
            desk.output.json(await user.inventory.provision(provision_id))
        return exit_code(state)


async def _request(
    user: Owner, arguments: argparse.Namespace, desk: Desk, text: str | None
) -> _Request:
    if text is not None:
        cluster = await cluster_named(user, arguments.cluster, desk.environ)
        return _Request(Path(arguments.what).name, text, ClusterId(str(cluster["id"])))
    row = await configuration_named(user, arguments.what, arguments.cluster, desk.environ)
    saved = await user.inventory.configuration_text(str(row["id"]))
    return _Request(str(row["name"]), saved, ClusterId(str(row["cluster_id"])), str(row["id"]))


def _text_of(file: Path) -> str | None:
    """Return what *file* holds; None: there is no such file."""
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {file}: {exc}") from exc
    parse_snapshot(text)  # refuse here what the agent would refuse later
    return text


async def _confirm(name: str, given: str | None) -> None:
    """:raises ConfigError: the name was not typed"""
    if given is None:
        if not sys.stdin.isatty():
            raise ConfigError(f"--destroy needs --confirm {name!r} where nobody can be asked")
        question = f"This destroys what {name} made. Type its name to go on: "
        given = await anyio.to_thread.run_sync(input, question, abandon_on_cancel=True)
    if given.strip() != name:
        raise ConfigError(f"{given!r} is not {name!r}: nothing was queued")


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours")
    return value
