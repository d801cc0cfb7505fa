"""``grape login``, ``logout``, ``whoami``: the session that the other commands use."""

import argparse
import getpass
import sys

import anyio.to_thread

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.cli.output import Column
from tendril_rt.errors import ConfigError, Unauthorized

_WHO = (Column("user", "email"), Column("id", "user_id"), Column("project", "url"))


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    login = commands.add_parser("login", parents=[common], help="sign in with e-mail and password")
    login.add_argument("email", nargs="?", help="default: asked for")
    login.add_argument("--email", dest="email_option", metavar="EMAIL", help="the same, by name")
    login.add_argument("--url", help="of the Supabase project; remembered")
    login.add_argument("--key", help="its anon (publishable) API key; remembered")
    login.add_argument(
        "--password-stdin",
        action="store_true",
        help="read the password from stdin (never from the command line, which others can list)",
    )
    login.set_defaults(run=_login)
    logout = commands.add_parser("logout", parents=[common], help="end the session, forget it")
    logout.set_defaults(run=_logout)
    whoami = commands.add_parser("whoami", parents=[common], help="say who is signed in, and where")
    whoami.set_defaults(run=_whoami)


async def _login(arguments: argparse.Namespace, desk: Desk) -> int:
    if desk.account.has_fixed_token:
        raise ConfigError("GRAPE_TOKEN is set, and stands in for a session: unset it to sign in")
    project = desk.account.project(arguments.url, arguments.key)
    email = arguments.email or arguments.email_option or await _ask_email()
    # Asked for before a connection is made: the person may take long.
    password = await anyio.to_thread.run_sync(
        _password_from_stdin if arguments.password_stdin else _ask_password, abandon_on_cancel=True
    )
    try:
        session = await desk.account.sign_in(project, email, password)
    except Unauthorized as exc:
        raise Unauthorized(f"{project.url} refused {email}: {exc}") from exc
    if desk.output.as_json:
        desk.output.json({"url": project.url, "email": session.email, "user_id": session.user_id})
    else:
        desk.output.note(f"signed in to {project.url} as {session.email}")
    return 0


async def _logout(arguments: argparse.Namespace, desk: Desk) -> int:
    session = await desk.account.sign_out()
    desk.output.note(f"signed out {session.email}" if session else "nobody was signed in")
    return 0


async def _whoami(arguments: argparse.Namespace, desk: Desk) -> int:
    await desk.account.token()  # renewed, if need be: what is said holds
    project, session = desk.account.project(), desk.account.session()
    who = {"url": project.url, "email": "by GRAPE_TOKEN", "user_id": None}
    if session is not None and not desk.account.has_fixed_token:
        who |= {"email": session.email, "user_id": session.user_id}
    desk.output.record(who, _WHO)
    return 0


async def _ask_email() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no e-mail address: name it, nobody is there to be asked")
    return (await anyio.to_thread.run_sync(input, "e-mail: ", abandon_on_cancel=True)).strip()


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise ConfigError("no terminal to ask for the password on: use --password-stdin")
    return getpass.getpass("password: ")


def _password_from_stdin() -> str:
    return sys.stdin.readline().rstrip("\r\n")
