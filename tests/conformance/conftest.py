"""Fixtures of the tests of Realtime: a server with the recordings' tables, fresh copies of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tendril_rt.local import postgres

from . import realtime_scenarios as scenarios


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[postgres.Server]:
    """A server of this module's own."""
    async with postgres.running(tmp_path_factory.mktemp("postgres") / "plane") as running:
        scenarios.prepare(running)
        yield running


@pytest.fixture
def url(server: postgres.Server) -> str:
    """The URL of a database of this test's own."""
    return scenarios.copy(server)


@pytest.fixture(scope="module")
def idle_url(server: postgres.Server) -> str:
    """The URL of a database that nobody writes to, so that many tests can share it."""
    return scenarios.copy(server)
