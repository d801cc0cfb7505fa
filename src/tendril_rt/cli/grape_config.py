"""``grape config``: saved configurations, as JSON text that loses no digit on its way."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from tendril_rt.cli.commands import Commands, actions
from tendril_rt.cli.desk import Desk, cluster_named, configuration_named
from tendril_rt.cli.output import Column, ago
from tendril_rt.errors import ConfigError, TendrilError
from tendril_rt.model import ClusterId
from tendril_rt.runner import process

_LIST = (
    Column("NAME", "name", is_cut=True),
    Column("CLUSTER", "cluster"),
    Column("SAVED", ago("updated_at")),
    Column("ID", "id"),
)
_SAVED = (Column("saved", "name"), Column("id", "id"))


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    config = actions(commands, "config", "saved configurations")
    listed = config.add_parser("list", parents=[common], help="list them")
    listed.set_defaults(run=_list)
    get = config.add_parser("get", parents=[common], help="print one, as JSON")
    get.set_defaults(run=_get)
    edit = config.add_parser("edit", parents=[common], help="change one in $VISUAL or $EDITOR")
    edit.set_defaults(run=_edit)
    save = config.add_parser("save", parents=[common], help="save one from a file")
    save.set_defaults(run=_save)
    for parser in (get, edit, save):
        parser.add_argument("name", help="its name, or its id")
        parser.add_argument("--cluster", metavar="NAME", help="where several have one of that name")
    save.add_argument("file", help="the configuration, as JSON; - for stdin")


async def _list(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        names = {row["id"]: row["name"] for row in await user.inventory.clusters()}
        found = await user.inventory.configurations()
    rows = [{**row, "cluster": names.get(row["cluster_id"])} for row in found]
    desk.output.table(rows, _LIST, empty="no configuration yet: grape config save NAME FILE")
    return 0


async def _get(arguments: argparse.Namespace, desk: Desk) -> int:
    async with desk.account.owner() as user:
        row = await configuration_named(user, arguments.name, arguments.cluster, desk.environ)
        text = await user.inventory.configuration_text(str(row["id"]))
    print(text, end="", file=desk.output.out)
    return 0


async def _save(arguments: argparse.Namespace, desk: Desk) -> int:
    text = _read(arguments.file)
    async with desk.account.owner() as user:
        cluster = await cluster_named(user, arguments.cluster, desk.environ)
        cluster_id = ClusterId(str(cluster["id"]))
        same = [
            row
            for row in await user.inventory.configurations()
            if row["cluster_id"] == cluster_id and arguments.name in (row["name"], row["id"])
        ]
        saved = await user.inventory.save_configuration(
            cluster_id,
            str(same[0]["name"]) if same else arguments.name,
            text,
            configuration_id=str(same[0]["id"]) if same else None,
        )
    desk.output.record(saved, _SAVED)
    return 0


async def _edit(arguments: argparse.Namespace, desk: Desk) -> int:
    editor = shlex.split(desk.environ.get("VISUAL") or desk.environ.get("EDITOR") or "vi")
    async with desk.account.owner() as user:
        row = await configuration_named(user, arguments.name, arguments.cluster, desk.environ)
        before = await user.inventory.configuration_text(str(row["id"]))
        name = _temporary(before)
        if code := await process.attached([*editor, name]):
            raise TendrilError(f"{editor[0]} ended with {code}: nothing was saved; see {name}")
        if (after := _read(name)) == before:
            os.unlink(name)
            desk.output.note("nothing changed")
            return 0
        try:
            saved = await user.inventory.save_configuration(
                ClusterId(str(row["cluster_id"])),
                str(row["name"]),
                after,
                configuration_id=str(row["id"]),
            )
        except TendrilError:
            desk.output.note(f"not saved; your text is in {name}")
            raise
    os.unlink(name)
    desk.output.record(saved, _SAVED)
    return 0


def _temporary(text: str) -> str:
    """Return the name of a new file with *text*, which its user alone may read."""
    descriptor, name = tempfile.mkstemp(prefix="grape-", suffix=".json")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {file}: {exc}") from exc
