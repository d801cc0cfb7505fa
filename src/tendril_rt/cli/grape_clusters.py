"""``grape clusters``: where agents run, and the tokens that they run with."""

import argparse

from tendril_rt.cli import grape_tokens
from tendril_rt.cli.commands import Commands, actions
from tendril_rt.cli.desk import Desk, cluster_named
from tendril_rt.cli.output import Column, Row, age_s, ago
from tendril_rt.errors import ConfigError, Rejected
from tendril_rt.model import ClusterId

_OFFLINE_AFTER_S = 90.0  # as the control plane's settings.offline_after


def _status(row: Row) -> object:
    """ONLINE is what the last heartbeat said; nobody may have marked the silence since."""
    silent_s = age_s(row["last_heartbeat"])
    is_stale = silent_s is not None and silent_s > _OFFLINE_AFTER_S
    return "OFFLINE" if row["status"] == "ONLINE" and is_stale else row["status"]


_LIST = (
    Column("NAME", "name", is_cut=True),
    Column("STATUS", _status),
    Column("HEARTBEAT", ago("last_heartbeat")),
    Column("SLOTS", "max_concurrency"),
    Column("DRAIN", "drain"),
    Column("ID", "id"),
)
_AGENTS = (
    Column("AGENT", "id"),
    Column("STATE", "state"),
    Column("HEARD", ago("last_seen")),
    Column("HOST", "hostname", is_cut=True),
    Column("VERSION", "version"),
    Column("CAPACITY", "capacity"),
)


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    clusters = actions(commands, "clusters", "the clusters, their agents and tokens")
    listed = clusters.add_parser("list", parents=[common], help="list your clusters")
    listed.set_defaults(run=_list)
    new = clusters.add_parser("add", parents=[common], help="register one; prints its token, once")
    new.add_argument("name")
    new.add_argument("--max-concurrency", type=int, default=1, metavar="N", help="default: 1")
    new.set_defaults(run=_add)
    show = clusters.add_parser("show", parents=[common], help="one with its agents and tokens")
    show.set_defaults(run=_show)
    options = clusters.add_parser("set", parents=[common], help="change what it takes on")
    options.add_argument("--max-concurrency", type=int, metavar="N", help="0 pauses it")
    options.add_argument(
        "--drain", action=argparse.BooleanOptionalAction, help="claim nothing more, finish the rest"
    )
    options.set_defaults(run=_set)
    for parser in (show, options):
        parser.add_argument("cluster", help="its name or id")
    grape_tokens.add(clusters, common)


async def _list(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        rows = await user.inventory.clusters()
    desk.output.table(rows, _LIST, empty="you have no cluster yet: grape clusters add NAME")
    return 0


async def _add(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        same = [row for row in await user.inventory.clusters() if row["name"] == arguments.name]
        if same:  # allowed by the control plane, but two of a name can only be told by their ids
            raise Rejected(f"you have a cluster {arguments.name!r} already: {same[0]['id']}")
        made = await user.register_cluster(
            arguments.name, max_concurrency=arguments.max_concurrency
        )
    grape_tokens.print_token(desk, {"cluster_id": made.cluster_id, "token": made.token})
    return 0


async def _show(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        cluster = await cluster_named(user, arguments.cluster, desk.environ)
        cluster_id = ClusterId(str(cluster["id"]))
        agents = await user.inventory.agents(cluster_id)
        tokens = await user.inventory.tokens(cluster_id)
    if desk.output.as_json:
        desk.output.json({**cluster, "agents": agents, "tokens": tokens})
        return 0
    desk.output.record(cluster, [Column(c.title.lower(), c.of) for c in _LIST])
    for rows, columns, empty in (
        (agents, _AGENTS, "no agent was ever heard"),
        (tokens, grape_tokens.COLUMNS, "no token"),
    ):
        print(file=desk.output.out)
        desk.output.table(rows, columns, empty=empty)
    return 0


async def _set(arguments: argparse.Namespace, desk: Desk) -> int:
    if arguments.max_concurrency is None and arguments.drain is None:
        raise ConfigError("nothing to set: --max-concurrency, --drain or --no-drain")
    async with desk.account.owner() as user:
        cluster = await cluster_named(user, arguments.cluster, desk.environ)
        answer = await user.inventory.set_options(
            ClusterId(str(cluster["id"])),
            max_concurrency=arguments.max_concurrency,
            drain=arguments.drain,
        )
    desk.output.record(answer, (Column("slots", "max_concurrency"), Column("drain", "drain")))
    return 0
