"""Writes what is made from the migrated database: ``docs/schema.md`` and ``sql/schema.sql``.

``python -m tests.integration.render_schema``

The page is made of the database's own comments; the other file is its schema as the pg_dump of the
embedded server writes it. A test compares both with what is in the repository.
"""

import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TypedDict

import anyio

from tendril_rt import resources
from tendril_rt.local import postgres

from .sql_support import Connection, Databases, dump

COMMAND = "python -m tests.integration.render_schema"
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "schema.md"
DUMP = ROOT / "sql" / "schema.sql"

_HEAD = f"""\
# The control plane's schema

Tables, columns, policies and functions, in the words of the database's own comments.
`sql/migrations` is the source; [migrating.md](migrating.md) says how to apply it. Who may call
what: `tests/integration/sql_access.txt`. Every privilege: `tests/integration/privileges.txt`.

This page is made by `{COMMAND}`.
"""
_DUMP_HEAD = f"""\
-- The schema after all of sql/migrations, to read and to compare. Not a source, never applied.
-- Made by the pg_dump of the embedded Postgres 18: {COMMAND}

"""


class _Part(TypedDict):
    """A row of ``sql/tests/described.sql``.

    :ivar kind: relation, column, policy, trigger or function
    :ivar owner: the relation that it belongs to; of a function, its schema
    :ivar shape: type and constraints of a column, result of a function, command of a policy
    """

    schema: str
    owner: str
    kind: str
    name: str
    shape: str
    comment: str


def schema_page(connection: Connection) -> str:
    """Return the whole page."""
    rows = connection.execute(resources.read("tests/described.sql").encode()).fetchall()
    parts = [_Part(**row) for row in rows]  # type: ignore[typeddict-item]
    sections = [_HEAD]
    for schema, members in groupby(parts, lambda part: part["schema"]):
        sections.append(f"# Schema `{schema}`\n")
        for owner, group in groupby(members, lambda part: part["owner"]):
            found = list(group)
            sections.append(_functions(found) if owner == "" else _relation(owner, found))
    return "\n".join(sections)


def _relation(name: str, parts: list[_Part]) -> str:
    of_kind = {
        kind: [part for part in parts if part["kind"] == kind]
        for kind in ("relation", "column", "policy", "trigger")
    }
    (relation,) = of_kind["relation"]
    lines = [
        f"## `{name}`",
        "",
        relation["comment"],
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{part['name']}` | {_cell(part['shape'])} | {_cell(part['comment'])} |"
        for part in of_kind["column"]
    ]
    for kind in ("policy", "trigger"):
        if of_kind[kind]:
            lines.append("")
        lines += [
            f"- {kind} `{part['name']}` ({part['shape']}): {part['comment']}"
            for part in of_kind[kind]
        ]
    return "\n".join([*lines, ""])


def _functions(parts: list[_Part]) -> str:
    lines = ["## Functions", ""]
    for part in parts:
        lines += [f"### `{part['name']}`", "", f"→ `{part['shape']}`", "", part["comment"], ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


def schema_dump(databases: Databases) -> str:
    """Return the whole file."""
    return _DUMP_HEAD + dump(databases.server, databases.server.url("ready"))


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with postgres.running(Path(folder) / "server") as server:
            databases = await anyio.to_thread.run_sync(Databases, server)
            DUMP.write_text(schema_dump(databases), encoding="utf-8")
            with databases.admin("ready") as connection:
                PAGE.write_text(schema_page(connection), encoding="utf-8")
    sys.stdout.write(f"{DUMP}\n{PAGE}\n")


if __name__ == "__main__":
    anyio.run(_main)
