"""The command ``grape``: what an operator does with the control plane.

``exits.py`` says what its exit codes mean; they are the same for every command.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import anyio

from tendril_rt import __version__
from tendril_rt.cli import (
    grape_bootstrap,
    grape_clusters,
    grape_completion,
    grape_config,
    grape_dashboard,
    grape_deploy,
    grape_eks_token,
    grape_keygen,
    grape_login,
    grape_logs,
    grape_migrate,
    grape_provisions,
)
from tendril_rt.cli.account import Account
from tendril_rt.cli.desk import Desk, read_env
from tendril_rt.cli.exits import DONE, INTERRUPTED, complain
from tendril_rt.cli.output import Output
from tendril_rt.cli.terminal import survive_narrow_terminals
from tendril_rt.errors import TendrilError

_COMMANDS = (
    grape_login,
    grape_clusters,
    grape_config,
    grape_deploy,
    grape_provisions,
    grape_logs,
    grape_keygen,
    grape_migrate,
    grape_dashboard,
    grape_bootstrap,
    grape_eks_token,
    grape_completion,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code."""
    survive_narrow_terminals()
    arguments = parser().parse_args(argv)
    try:
        environ = {**os.environ, **read_env(arguments.env)}
        output = Output(as_json=arguments.json, environ=environ)
        desk = Desk(Account(environ), output, environ)
        arguments.ask(arguments, desk)
        code: int = anyio.run(arguments.run, arguments, desk)
    except (TendrilError, BaseExceptionGroup) as exc:
        return complain(arguments.command, exc)
    except BrokenPipeError:  # such as by head: who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    else:
        return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of every command.

    Each sets ``run`` to what carries it out, and may set ``ask`` to what asks a person first. That
    is before there is an event loop: Ctrl-C ends the question and leaves the terminal as it was.
    """
    whole = argparse.ArgumentParser(prog="grape", description="Operate the control plane.")
    whole.set_defaults(ask=_ask_nothing)
    whole.add_argument("--version", action="version", version=f"grape {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print results as JSON")
    common.add_argument("--env", metavar="FILE", help="read GRAPE_… from here, NAME=value a line")
    for module in _COMMANDS:
        module.add(commands, common)
    return whole


def _ask_nothing(arguments: argparse.Namespace, desk: Desk) -> None:
    """Most commands have no question."""


if __name__ == "__main__":
    sys.exit(main())
