"""What is made from the database is what is in the repository."""

import pytest

from .render_schema import COMMAND, DUMP, PAGE, schema_dump, schema_page
from .sql_support import Connection, Databases, debian_bin_dirs

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]


def test_the_page_is_made_of_the_comments(databases: Databases) -> None:
    """The same from both servers, too."""
    with databases.admin("ready") as admin:
        assert schema_page(admin) == PAGE.read_text(encoding="utf-8"), f"run: {COMMAND}"


def test_the_dump_is_that_of_the_migrations(databases: Databases) -> None:
    if databases.server.bin_dir in debian_bin_dirs():
        pytest.skip("each version of pg_dump has words of its own; the file is the embedded one's")
    assert schema_dump(databases) == DUMP.read_text(encoding="utf-8"), f"run: {COMMAND}"


def test_a_changed_comment_would_be_noticed(admin: Connection) -> None:
    admin.execute(b"comment on column public.clusters.name is 'changed'")
    assert schema_page(admin) != PAGE.read_text(encoding="utf-8")
