"""``grape migrate``: the control plane's schema, applied to a database (docs/migrating.md)."""

import argparse

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.errors import ConfigError, TendrilError


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "migrate", parents=[common], help="apply sql/migrations to a database"
    )
    command.add_argument(
        "database_url",
        nargs="?",
        help="of the database's owner, postgresql://… (default: GRAPE_DATABASE_URL, which keeps "
        "the password out of the list of processes)",
    )
    command.set_defaults(run=_migrate)


async def _migrate(arguments: argparse.Namespace, desk: Desk) -> int:
    url = arguments.database_url or desk.environ.get("GRAPE_DATABASE_URL", "")
    if not url:
        raise ConfigError("GRAPE_DATABASE_URL is not set: the URL of the database's owner")
    try:
        from tendril_rt.migrate import migrate
    except ImportError as exc:
        raise TendrilError(
            f"migrating needs one more package ({exc.name}): pip install 'tendril-rt[grape]'"
        ) from exc
    output = desk.output
    applied = await migrate(url, on_applied=lambda name: None if output.as_json else print(name))
    if output.as_json:
        output.json({"applied": list(applied)})
        return 0
    print(f"{len(applied)} applied" if applied else "nothing to apply: the schema is up to date")
    return 0
