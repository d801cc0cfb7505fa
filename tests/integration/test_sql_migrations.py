"""Every way of applying the migrations: ``grape migrate``, psql, the Supabase CLI's folder.

And every way that is refused. Whichever way, the schema is the same to the byte.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import psycopg
import pytest

from tendril_rt import resources
from tendril_rt.cli.grape import main as grape
from tendril_rt.errors import MigrationError
from tendril_rt.migrate import migrate

from .sql_support import Databases, connected, dump, load, published

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_NAMES = [path.name for path in resources.migrations()]


async def test_migrating_twice_applies_once(bare_url: str) -> None:
    told: list[str] = []
    assert await migrate(bare_url, on_applied=told.append) == _NAMES == told
    assert await migrate(bare_url) == []


async def test_two_at_once_take_turns(bare_url: str) -> None:
    applied: list[str] = []

    async def one() -> None:
        applied.extend(await migrate(bare_url))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)
    assert sorted(applied) == _NAMES


def test_a_server_without_a_publication_gets_one(bare_url: str) -> None:
    """As one that is not Supabase's."""
    with connected(bare_url) as admin:
        admin.execute(b"drop publication supabase_realtime")
        for path in resources.migrations():
            admin.execute(path.read_bytes())
        assert published(admin) == ["clusters", "provision_logs", "provisions"]


@pytest.mark.parametrize(
    ("tampering", "message"),
    [
        (b"update tendril_private.schema_migrations set sha256 = 'x' where version = 3", "changed"),
        (
            b"insert into tendril_private.schema_migrations values (9999, '9999_later.sql', 'x')",
            "9999_later.sql, which this release does not know",
        ),
    ],
)
async def test_refuses_another_history(url: str, tampering: bytes, message: str) -> None:
    with connected(url) as admin:
        admin.execute(tampering)
    with pytest.raises(MigrationError, match=message):
        await migrate(url)


async def test_a_failing_migration_leaves_nothing(
    bare_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "0001_make_one.sql", tmp_path / "0002_make_two.sql"
    good.write_text("create table public.one ()")
    bad.write_text("create table public.two (); select 1/0")
    monkeypatch.setattr(resources, "migrations", lambda: [good, bad])
    with pytest.raises(MigrationError, match=r"0002_make_two\.sql .*division by zero"):
        await migrate(bare_url)
    with connected(bare_url) as admin:
        row = admin.execute(
            b"select to_regclass('public.one') is not null as one,"
            b" to_regclass('public.two') is null as no_two"
        ).fetchone()
    assert row == {"one": True, "no_two": True}
    bad.write_text("create table public.two ()")
    assert await migrate(bare_url) == [bad.name]


async def test_an_unreachable_database_is_said_so() -> None:
    with pytest.raises(MigrationError, match="cannot be reached"):
        await migrate("postgresql://postgres:secret@127.0.0.1:1/postgres")


# --- other ways ------------------------------------------------------------------------------


def test_grape_migrate_says_what_it_does(
    databases: Databases, bare_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert grape(["migrate", bare_url]) == 0
    assert capsys.readouterr().out.splitlines() == [*_NAMES, f"{len(_NAMES)} applied"]
    assert grape(["migrate", bare_url]) == 0
    assert capsys.readouterr().out == "nothing to apply: the schema is up to date\n"
    assert dump(databases.server, bare_url) == _fresh(databases)


def test_grape_migrate_names_what_stands_in_the_way(
    bare_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(bare_url) as admin:
        admin.execute(b"create table public.clusters ()")
    assert grape(["migrate", bare_url]) == 1
    assert "0002_create_clusters.sql could not be applied" in capsys.readouterr().err


def test_psql_applies_them_in_order(databases: Databases, bare_url: str) -> None:
    _psql(databases, bare_url, resources.migrations())
    assert _without_record(dump(databases.server, bare_url)) == _without_record(_fresh(databases))


def test_the_supabase_cli_finds_them_in_its_folder(
    databases: Databases, bare_url: str, tmp_path: Path
) -> None:
    """By the commands of docs/migrating.md, and in the order of the names that they give."""
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text(encoding="utf-8")
    script = page.partition("```sh\n# supabase\n")[2].partition("```")[0]
    assert script
    subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SQL": str(resources.root())},
        check=True,
    )
    copied = sorted((tmp_path / "supabase" / "migrations").iterdir())
    assert [path.name.partition("_")[2] for path in copied] == [
        name.partition("_")[2] for name in _NAMES
    ]
    assert all(path.name[:14].isdigit() and path.name[14] == "_" for path in copied)
    _psql(databases, bare_url, copied)
    assert _without_record(dump(databases.server, bare_url)) == _without_record(_fresh(databases))


def test_an_owner_that_is_no_superuser_applies_them(databases: Databases, bare_url: str) -> None:
    """On Supabase the role "postgres" owns the database, and bypasses row security at most."""
    with _ordinary_owner(databases, bare_url) as url:
        assert anyio.run(migrate, url) == _NAMES


def test_fresh_equals_migrated_with_data_in_between(databases: Databases, bare_url: str) -> None:
    """Each file finds a database in use: rows in every table that was there before."""
    with connected(bare_url) as admin:
        for path in resources.migrations():
            admin.execute(path.read_bytes())
            load(admin, "populate.sql")
        empty = [
            table
            for table in _tables(admin)
            if not admin.execute(f"select from {table} limit 1".encode()).fetchall()
        ]
        assert empty == []
    assert _without_record(dump(databases.server, bare_url)) == _without_record(_fresh(databases))


def _tables(admin: psycopg.Connection[dict[str, object]]) -> list[str]:
    rows = admin.execute(
        b"select c.oid::regclass::text as name from pg_class c"
        b" where c.relkind = 'r' and c.relnamespace in"
        b"   ('public'::regnamespace, 'tendril_private'::regnamespace)"
    ).fetchall()
    return [str(row["name"]) for row in rows]


def _fresh(databases: Databases) -> str:
    return dump(databases.server, databases.server.url("ready"))


def _without_record(schema: str) -> str:
    """Leave out the table of ``grape migrate``, which other ways do not make."""
    return "".join(part for part in schema.split("\n\n") if "schema_migrations" not in part)


def _psql(databases: Databases, url: str, files: Sequence[Path]) -> None:
    for path in files:
        subprocess.run(
            [
                str(databases.server.bin_dir / "psql"),
                *("--no-psqlrc", "--quiet", "--single-transaction", "-v", "ON_ERROR_STOP=1"),
                *("-f", str(path), url),
            ],
            check=True,
        )


@contextmanager
def _ordinary_owner(databases: Databases, url: str) -> Iterator[str]:
    name = url.rpartition("/")[2]
    with connected(url) as admin:
        admin.execute(b"create role ordinary login createrole bypassrls password 'ordinary'")
        admin.execute(f"alter database {name} owner to ordinary".encode())
        admin.execute(b"alter publication supabase_realtime owner to ordinary")
        # Supabase lets "postgres" make policies on what is not its own.
        admin.execute(b"grant usage on schema realtime to ordinary")
        admin.execute(b"alter table realtime.messages owner to ordinary")
        try:
            yield f"postgresql://ordinary:ordinary@127.0.0.1:{databases.server.port}/{name}"
        finally:
            admin.execute(b"reassign owned by ordinary to postgres")
            admin.execute(b"drop owned by ordinary")
            admin.execute(f"alter database {name} owner to postgres".encode())
            admin.execute(b"drop role ordinary")
