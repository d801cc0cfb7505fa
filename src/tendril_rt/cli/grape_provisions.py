"""``grape provisions``: what was asked for, how it went, and how to stop it."""

import argparse
from datetime import datetime

from tendril_rt.cli.commands import Commands, actions
from tendril_rt.cli.desk import Desk, cluster_named, provision_named
from tendril_rt.cli.output import Column, Row, age_s, ago, span
from tendril_rt.errors import Rejected
from tendril_rt.model import ClusterId, ProvisionId

_DEFAULT_LIMIT = 20


def _took(row: Row) -> str:
    started, ended = row["started_at"], row["completed_at"]
    if not isinstance(started, str):
        return ""
    if isinstance(ended, str):
        between = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
        return span(between.total_seconds())
    return span(age_s(started) or 0.0)


_LIST = (
    Column("ID", "id"),
    Column("CLUSTER", "cluster", is_cut=True),
    Column("OPERATION", "operation"),
    Column("STATUS", "status"),
    Column("ATTEMPT", "attempt"),
    Column("QUEUED", ago("created_at")),
    Column("TOOK", _took),
    Column("ERROR", "error_code"),
)
_SHOW = (
    Column("provision", "id"),
    Column("cluster", "cluster"),
    Column("operation", "operation"),
    Column("status", "status"),
    Column("attempt", "attempt"),
    Column("stack", "stack_key"),
    Column("queued", "created_at"),
    Column("started", "started_at"),
    Column("ended", "completed_at"),
    Column("cancel asked", "cancel_requested_at"),
    Column("error", "error_code"),
    Column("message", "error_message"),
)


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    provisions = actions(commands, "provisions", "what was queued, and what became of it")
    listed = provisions.add_parser("list", parents=[common], help="the newest first")
    listed.add_argument("--cluster", metavar="NAME", help="of this cluster alone")
    listed.add_argument(
        "--limit",
        type=int,
        default=_DEFAULT_LIMIT,
        metavar="N",
        help=f"at most so many (default: {_DEFAULT_LIMIT}; 0: all)",
    )
    listed.set_defaults(run=_list)
    show = provisions.add_parser("show", parents=[common], help="one, with its outcome")
    show.add_argument("provision", nargs="?", help="its id (default: the newest)")
    show.set_defaults(run=_show)
    cancel = provisions.add_parser(
        "cancel",
        parents=[common],
        help="stop one: queued at once, running by one interrupt to Terraform",
    )
    cancel.add_argument("provision", help="its id")
    cancel.add_argument(
        "--force",
        action="store_true",
        help="interrupt a second time, then kill: Terraform may end without saving its state",
    )
    cancel.set_defaults(run=_cancel)


async def _list(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        names = {row["id"]: row["name"] for row in await user.inventory.clusters()}
        cluster_id = None
        if arguments.cluster:
            cluster = await cluster_named(user, arguments.cluster, desk.environ)
            cluster_id = ClusterId(str(cluster["id"]))
        rows = await user.inventory.provisions(
            cluster_id=cluster_id, at_most=max(0, arguments.limit) or None
        )
    rows = [{**row, "cluster": names.get(row["cluster_id"])} for row in rows]
    desk.output.table(rows, _LIST, empty="no provision yet: grape deploy")
    return 0


async def _show(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        provision_id = await provision_named(user, arguments.provision)
        row = await user.inventory.provision(provision_id)
        names = {row["id"]: row["name"] for row in await user.inventory.clusters()}
    if row is None:
        raise Rejected(f"you have no provision {provision_id}: grape provisions list")
    whole = {**row, "cluster": names.get(row["cluster_id"])}
    desk.output.record(whole, [c for c in _SHOW if c.text(whole) != "-"])
    return 0


async def _cancel(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        provision_id = ProvisionId(await provision_named(user, arguments.provision))
        answer = await user.cancel_provision(provision_id, force=arguments.force)
    if desk.output.as_json:
        desk.output.json(answer)
    elif answer["changed"]:
        desk.output.note(f"asked to stop; it is {answer['status']}")
    else:
        desk.output.note(f"nothing changed: it is {answer['status']}")
    return 0
