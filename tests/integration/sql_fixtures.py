"""Fixtures of the tests of ``sql/``: a server of each kind that is here, fresh databases on it.

A plugin: a module that needs them says ``pytest_plugins = ["tests.integration.sql_fixtures"]``.
"""

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from tendril_rt.local import postgres

from .sql_support import Connection, Databases, connected, debian_bin_dirs

#: The embedded server in every run; those of the system among the long tests.
_SERVERS = [
    pytest.param(None, id="embedded"),
    *(pytest.param(path, id=str(path), marks=pytest.mark.long) for path in debian_bin_dirs()),
]


@pytest.fixture(scope="session", params=_SERVERS)
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """One server of each kind that is here: the embedded one, and those of the system."""
    folder = tmp_path_factory.mktemp("postgres") / "server"
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            postgres.running(folder, bin_dir=request.param)
        ) as server,
    ):
        yield Databases(server)


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    """A fresh migrated database."""
    with databases.copy("ready") as url:
        yield url


@pytest.fixture
def admin(url: str) -> Iterator[Connection]:
    """A superuser in the fresh migrated database."""
    with connected(url) as connection:
        yield connection


@pytest.fixture
def bare_url(databases: Databases) -> Iterator[str]:
    """A fresh database as Supabase hands it out."""
    with databases.copy("bare") as url:
        yield url


@pytest.fixture(scope="session")
def stage(databases: Databases) -> Iterator[Connection]:
    """A superuser in the one database of all scenarios, each of which is rolled back."""
    with databases.copy("ready") as url, connected(url) as connection:
        yield connection
