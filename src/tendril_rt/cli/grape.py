"""The command ``grape``: what an operator does with the control plane."""

import argparse
import functools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import simplejson

from tendril_rt import __version__, parsing
from tendril_rt.cli.follow import Screen, follow
from tendril_rt.cli.terminal import survive_narrow_terminals
from tendril_rt.control import snapshot as configuration
from tendril_rt.control.owner import owner
from tendril_rt.control.signing import Signer, make_key, read_signer
from tendril_rt.errors import ConfigError, SnapshotError, TendrilError
from tendril_rt.model import ClusterId, Operation, Status

_VARIABLES = {
    "GRAPE_URL": "base URL of the Supabase project",
    "GRAPE_KEY": "the project's anon (publishable) API key",
    "GRAPE_TOKEN": "your user token (JWT)",
    "GRAPE_CLUSTER": "UUID of the cluster to deploy to",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code (2: used or configured wrongly)."""
    survive_narrow_terminals()
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "migrate":
            return _migrate(arguments.database_url)
        if arguments.command == "keygen":
            return _keygen(arguments.file)
        return _deploy(arguments)
    except ConfigError as exc:
        print(f"grape {arguments.command}: the settings need attention:", file=sys.stderr)
        for problem in exc.problems:
            print(f"  - {problem}", file=sys.stderr)
        return 2
    except TendrilError as exc:
        print(f"grape {arguments.command}: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="grape", description="Operate the control plane.")
    parser.add_argument("--version", action="version", version=f"grape {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    migrate = commands.add_parser("migrate", help="apply sql/migrations to a database")
    migrate.add_argument(
        "database_url",
        nargs="?",
        help="of the database's owner, postgresql://… (default: GRAPE_DATABASE_URL, which keeps "
        "the password out of the list of processes)",
    )
    deploy = commands.add_parser("deploy", help="queue a provision and follow it")
    deploy.add_argument("file", help="the configuration, as JSON (config_snapshot)")
    deploy.add_argument("--env", metavar="FILE", help="read GRAPE_… from here, NAME=value a line")
    what = deploy.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="plan only")
    what.add_argument("--destroy", action="store_true", help="destroy what it made")
    deploy.add_argument("--detach", action="store_true", help="do not follow it")
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
    keygen = commands.add_parser("keygen", help="make a key to sign provisions with")
    keygen.add_argument("file", help="the new key file; its public key is printed")
    return parser


def _migrate(named: str | None) -> int:
    url = named or os.environ.get("GRAPE_DATABASE_URL", "")
    if not url:
        raise ConfigError("GRAPE_DATABASE_URL is not set: the URL of the database's owner")
    try:
        from tendril_rt.migrate import migrate
    except ImportError as exc:
        raise TendrilError(
            f"migrating needs one more package ({exc.name}): pip install 'tendril-rt[grape]'"
        ) from exc
    applied = anyio.run(functools.partial(migrate, url, on_applied=lambda name: print(name)))
    print(f"{len(applied)} applied" if applied else "nothing to apply: the schema is up to date")
    return 0


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours")
    return value


def _keygen(file: str) -> int:
    signer = make_key(Path(file))
    print(
        f"{signer.public_key}  <- into TENDRIL_TRUSTED_KEYS of your agents; keep {file} to yourself"
    )
    return 0


def _deploy(arguments: argparse.Namespace) -> int:
    environ = {**os.environ, **_read_env(arguments.env)}
    problems = [problem for name in _VARIABLES for problem in _problems(name, environ)]
    if problems:
        raise ConfigError(*problems)
    try:
        text = Path(arguments.file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {arguments.file}: {exc}") from exc
    configuration.parse_snapshot(text)  # refuse here what the agent would refuse later
    operation = (
        Operation.DESTROY
        if arguments.destroy
        else Operation.PLAN
        if arguments.plan
        else Operation.APPLY
    )
    key = arguments.sign_with or environ.get("GRAPE_SIGNING_KEY")
    submit = functools.partial(
        _submit,
        environ,
        text,
        operation,
        detach=arguments.detach,
        signer=read_signer(Path(key)) if key else None,
        not_after=int(time.time() + arguments.valid_for * 3600) if arguments.valid_for else 0,
    )
    return anyio.run(submit)


async def _submit(
    environ: Mapping[str, str],
    text: str,
    operation: Operation,
    *,
    detach: bool,
    signer: Signer | None,
    not_after: int,
) -> int:
    snapshot = simplejson.loads(text, use_decimal=True)
    if not isinstance(snapshot, dict):
        raise SnapshotError("the configuration is not a JSON object")
    async with owner(environ["GRAPE_URL"], environ["GRAPE_KEY"], environ["GRAPE_TOKEN"]) as user:
        screen = Screen()
        screen.start()
        provision_id = await user.create_provision(
            ClusterId(environ["GRAPE_CLUSTER"]),
            snapshot,
            operation=operation,
            signer=signer,
            not_after=not_after,
        )
        print(f"queued provision {provision_id}", flush=True)
        if detach:
            return 0
        state = await follow(user, provision_id, screen)
        return 0 if state.status is Status.SUCCESS else 1


def _problems(name: str, environ: Mapping[str, str]) -> list[str]:
    value = environ.get(name, "").strip()
    if not value:
        return [f"{name} is not set: {_VARIABLES[name]}"]
    try:
        (parsing.url if name == "GRAPE_URL" else parsing.secret)(value)
    except ValueError as exc:
        return [f"{name} {exc}"]
    return []


def _read_env(path: str | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
