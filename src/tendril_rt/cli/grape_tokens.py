"""The actions of ``grape clusters`` on tokens: what agents of a cluster prove themselves with."""

import argparse
from datetime import UTC, datetime, timedelta

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk, cluster_named
from tendril_rt.cli.output import Column, Row, ago
from tendril_rt.model import ClusterId


def _state(row: Row) -> str:
    if row["revoked_at"]:
        return "revoked"
    expires_at = row["expires_at"]
    if isinstance(expires_at, str) and datetime.fromisoformat(expires_at) <= datetime.now(UTC):
        return "expired"
    return "live"


COLUMNS = (
    Column("TOKEN", "id"),
    Column("STATE", _state),
    Column("FINGERPRINT", "fingerprint"),
    Column("MADE", ago("created_at")),
    Column("USED", ago("last_used_at")),
    Column("EXPIRES", "expires_at"),
)


def add(clusters: Commands, common: argparse.ArgumentParser) -> None:
    """Add the actions to those of ``clusters``."""
    rotate = clusters.add_parser(
        "rotate-token", parents=[common], help="make a second token, to replace the first"
    )
    rotate.add_argument("cluster", help="its name or id")
    rotate.add_argument(
        "--old-expires-in",
        type=float,
        metavar="HOURS",
        help="end the present one then (default: until it is revoked)",
    )
    rotate.set_defaults(run=_rotate)
    revoke = clusters.add_parser("revoke-token", parents=[common], help="refuse a token at once")
    revoke.add_argument("token", help="its id, as 'clusters show' prints it")
    revoke.set_defaults(run=_revoke)


def print_token(desk: Desk, made: Row) -> None:
    """Print a token: to stdout what an agent needs, and to stderr what to do with it."""
    if desk.output.as_json:
        desk.output.json(made)
        return
    print(f"TENDRIL_CLUSTER_ID={made['cluster_id']}", file=desk.output.out)
    print(f"TENDRIL_API_TOKEN={made['token']}", file=desk.output.out, flush=True)
    desk.output.note(
        "The token is shown this once and stored nowhere: put both lines into the agent's "
        "environment."
    )


async def _rotate(arguments: argparse.Namespace, desk: Desk) -> int:
    ends_at = None
    if arguments.old_expires_in is not None:
        ends_at = (datetime.now(UTC) + timedelta(hours=arguments.old_expires_in)).isoformat()
    async with desk.account.owner() as user:
        cluster = await cluster_named(user, arguments.cluster, desk.environ)
        made = await user.inventory.rotate_token(
            ClusterId(str(cluster["id"])), old_expires_at=ends_at
        )
    print_token(desk, made)
    return 0


async def _revoke(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        answer = await user.inventory.revoke_token(arguments.token)
    if desk.output.as_json:
        desk.output.json(answer)
    else:
        desk.output.note("revoked" if answer["changed"] else "it was revoked before")
    return 0
