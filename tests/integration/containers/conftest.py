"""One engine, one control plane and one copy of the templates for all tests of this folder."""

import os
from collections.abc import Generator, Iterator

import pytest

from tests.conftest import RunningPlane

from .engine import NO_ENGINE, Engine, connected
from .stage import Agents, Stage, embedded, templates
from .supabase import official


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give every skip for want of an engine one place: one line of the summary."""
    report = yield
    if call.excinfo is not None and NO_ENGINE in str(call.excinfo.value):
        report.longrepr = (__file__, 0, NO_ENGINE)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many of these tests ran: they are easily left out unnoticed."""
    here = "tests/integration/containers/"
    passed = terminalreporter.getreports("passed")
    count = sum(report.when == "call" and report.nodeid.startswith(here) for report in passed)
    if count:
        terminalreporter.line(f"on containers of the built image: {count} passed")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine, rid of what earlier runs left."""
    engine = connected()
    engine.remove_leftovers()
    return engine


@pytest.fixture(scope="session")
def stage(engine: Engine) -> Iterator[Stage]:
    """A control plane for the whole run: ours, or with TENDRIL_IT_SUPABASE=1 Supabase's servers."""
    play = official if os.environ.get("TENDRIL_IT_SUPABASE") == "1" else embedded
    with play(engine) as stage:
        yield stage


@pytest.fixture(scope="session")
def plane(stage: Stage) -> RunningPlane:
    """The control plane that ``user`` and ``cluster`` speak to."""
    return stage.plane


@pytest.fixture(scope="session")
def agents(
    engine: Engine, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agents]:
    """Agents on that control plane."""
    with templates(engine, tmp_path_factory.mktemp("templates")) as volume:
        yield Agents(engine, stage, volume)


@pytest.fixture
def state(engine: Engine) -> Iterator[str]:
    """A volume for the state of this test's agent."""
    with engine.volume() as volume:
        yield volume.name
