"""Servers, fresh databases and callers for the tests of ``sql/``."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psycopg
from psycopg.rows import DictRow, dict_row

from tendril_rt import resources
from tendril_rt.local.postgres import Server
from tendril_rt.migrate import migrate

Connection = psycopg.Connection[DictRow]

CLUSTER = "c0000000-0000-4000-8000-000000000001"  # as in sql/tests/support.sql
TOKEN_HASH = "a1" * 32

#: Lines of a dump that say nothing of the schema, or are never the same.
_PG_DUMPS_OWN = (
    r"^--\n-- .*\n--\n|^-- Dumped .*\n|^\\(un)?restrict .*\n|^SET .*\n|^SELECT pg_catalog.*\n"
    r"|^CREATE SCHEMA public;\n|^COMMENT ON SCHEMA public .*\n"
)


@dataclass(frozen=True)
class Scenario:
    """A piece of ``sql/tests/NN_<rpc>.sql``, from one ``-- scenario:`` to the next."""

    file: str
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"


def scenarios() -> list[Scenario]:
    """Return every scenario, in the order of the files."""
    found = []
    for path in sorted((resources.root() / "tests").glob("[0-9][0-9]_*.sql")):
        parts = re.split(r"^-- scenario: (.+)\n", path.read_text(encoding="utf-8"), flags=re.M)
        found += [
            Scenario(path.stem, name, sql)
            for name, sql in zip(parts[1::2], parts[2::2], strict=True)
        ]
    return found


@dataclass(frozen=True)
class Databases:
    """Makes databases on one server: ``bare`` (a new Supabase project) and ``ready`` (migrated)."""

    server: Server

    def __post_init__(self) -> None:
        with self.admin("postgres") as connection:
            # Hundreds of databases come and go: nothing here has to survive a power cut.
            connection.execute(b"alter system set fsync = off")
            connection.execute(b"select pg_reload_conf()")
            connection.execute(b"create database bare")
        with self.admin("bare") as connection:
            connection.execute(resources.read("embedded/supabase.sql").encode())
            connection.execute(resources.read("embedded/realtime.sql").encode())
        with self.admin("postgres") as connection:
            connection.execute(b"create database ready template bare")
        anyio.run(migrate, self.server.url("ready"))
        with self.admin("ready") as connection:
            connection.execute(resources.read("tests/support.sql").encode())

    @contextmanager
    def admin(self, database: str) -> Iterator[Connection]:
        """Connect as superuser."""
        with connected(self.server.url(database)) as connection:
            yield connection

    @contextmanager
    def copy(self, template: str) -> Iterator[str]:
        """Yield the URL of a fresh copy of *template*; drop it in the end."""
        name = f"test_{uuid.uuid4().hex}"
        with self.admin("postgres") as connection:
            connection.execute(f"create database {name} template {template}".encode())
            try:
                yield self.server.url(name)
            finally:
                connection.execute(f"drop database {name} with (force)".encode())


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """Connect in autocommit, rows as dicts."""
    with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


@dataclass(frozen=True)
class Caller:
    """Calls functions as PostgREST does: as role anon, by named arguments."""

    connection: Connection
    cluster_id: str = CLUSTER
    agent_id: str | None = field(default_factory=lambda: str(uuid.uuid4()))

    def call(self, function: str, **arguments: object) -> list[DictRow]:
        """Return the rows of *function*; cluster and token are added.

        :raises psycopg.Error: the function refused; see its ``sqlstate``
        """
        given = {"p_cluster_id": self.cluster_id, "p_token_hash": TOKEN_HASH, **arguments}
        named = ", ".join(f"{name} => %({name})s" for name in given)
        with self.connection.transaction():
            self.connection.execute(b"set local role anon")
            return self.connection.execute(
                f"select * from public.{function}({named})".encode(), given
            ).fetchall()

    def claim(self, claim_id: str | None = None) -> DictRow | None:
        """Claim as this agent."""
        rows = self.call("fetch_next_provision", p_agent_id=self.agent_id, p_claim_id=claim_id)
        return rows[0] if rows else None

    def report(self, provision: DictRow, status: str, log_chunks: int | None = None) -> None:
        """Report *status* for the attempt that *provision* was claimed in."""
        self.call(
            "update_provision_status",
            p_provision_id=provision["id"],
            p_status=status,
            p_attempt=provision["attempt"],
            p_agent_id=self.agent_id,
            p_log_chunks=log_chunks,
        )


def privileges(connection: Connection) -> list[str]:
    """Return what every role of the API holds, a line each, sorted."""
    rows = connection.execute(resources.read("tests/privileges.sql").encode()).fetchall()
    return sorted(row["privilege"] for row in rows)


def published(connection: Connection) -> list[str]:
    """Return the tables that Realtime announces, sorted."""
    rows = connection.execute(
        b"select tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    ).fetchall()
    return sorted(row["tablename"] for row in rows)


def dump(server: Server, url: str) -> str:
    """Return the schema in ``url`` as the server's own pg_dump writes it, without what varies."""
    done = subprocess.run(
        [
            str(server.bin_dir / "pg_dump"),
            *("--schema-only", "--no-owner", "--schema=public", "--schema=tendril_private"),
            url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    text = re.sub(_PG_DUMPS_OWN, "", done.stdout, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def load(connection: Connection, name: str) -> None:
    """Run ``sql/tests/<name>``."""
    connection.execute(resources.read(f"tests/{name}").encode())


def submit(connection: Connection, count: int, *, stacks: int = 0) -> None:
    """Queue *count* provisions in order, over *stacks* stacks (0: each its own)."""
    names = [str(uuid.uuid4()) for _ in range(stacks or count)]
    for index in range(count):
        connection.execute(b"select tests.submit(%s::uuid)", (names[index % len(names)],))


def debian_bin_dirs() -> list[Path]:
    """Return the program folders of the servers that the system has installed."""
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"))
