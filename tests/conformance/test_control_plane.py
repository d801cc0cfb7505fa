"""The control plane's functions and tables over HTTP: the gateway and the real PostgREST 12.0.2.

Both serve a database of their own, copied from one template, and are told the same story. Each
answer is held against what is expected, and against the other's.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import anyio.to_thread
import pytest
import pytest_asyncio

from tendril_rt.local import postgres
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.app import GatewayConfig, serving
from tests.integration.sql_support import Databases, connected

from . import (
    plane_agents,
    plane_hostile,
    plane_outcomes,
    plane_owners,
    plane_tables,
    postgrest_binary,
)
from .plane_differences import OF
from .plane_exchanges import (
    Exchange,
    Expected,
    Names,
    Step,
    comparable,
    exchanged,
    faults,
    role_of,
)
from .plane_hostile import Function
from .rest_cases import SECRET, Target

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

_ANON_KEY = tokens.sign({"role": "anon"}, SECRET)
_SERVICE_ROLE_KEY = tokens.sign({"role": "service_role"}, SECRET)
_STEPS: tuple[Step, ...] = (
    *plane_agents.STEPS,
    *plane_outcomes.STEPS,
    *plane_owners.STEPS,
    *plane_tables.STEPS,
    *plane_hostile.STEPS,
    *plane_tables.READS,
    *plane_owners.PRUNING,
)
_EXCHANGES = {step.name: step for step in _STEPS if isinstance(step, Exchange)}

Answers: TypeAlias = Mapping[str, Mapping[str, object]]
#: Serves a database, by the URLs of its superuser and of role authenticator.
Serve: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[Target]]


@dataclass(frozen=True)
class Told:
    """What each target answered, by exchange.

    :ivar absent: why there is no real PostgREST here, or empty
    """

    gateway: Answers
    real: Answers
    absent: str


@asynccontextmanager
async def _gateway(admin_url: str, authenticator_url: str) -> AsyncIterator[Target]:
    config = GatewayConfig(
        admin_url=admin_url,
        authenticator_url=authenticator_url,
        jwt_secret=SECRET,
        anon_key=_ANON_KEY,
        service_role_key=_SERVICE_ROLE_KEY,
    )
    async with serving(config) as url:
        yield Target(f"{url}/rest/v1", {"apikey": _ANON_KEY})


@asynccontextmanager
async def _real(program: Path, _: str, authenticator_url: str) -> AsyncIterator[Target]:
    with postgrest_binary.serving(program, authenticator_url, SECRET) as url:
        yield Target(url)


def _tell(target: Target, admin_url: str) -> Answers:
    """Go through the story; blocks."""
    names, answers = Names(), dict[str, Mapping[str, object]]()
    with connected(admin_url) as admin:
        for step in _STEPS:
            if isinstance(step, Exchange):
                answer = exchanged(target, step, names)
                answers[step.name] = comparable(answer, names)
            else:
                admin.execute(step.sql.encode())
    return answers


async def _told(serve: Serve, databases: Databases) -> Answers:
    """Go through the story on a fresh database."""
    with databases.copy("ready") as admin_url:
        authenticator_url = admin_url.replace("//postgres:", "//authenticator:")
        async with serve(admin_url, authenticator_url) as target:
            return await anyio.to_thread.run_sync(_tell, target, admin_url)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Tell the story to both at once."""
    answers: dict[str, Answers] = {"gateway": {}, "real": {}}
    absent = ""
    serves: dict[str, Serve] = {"gateway": _gateway}
    try:
        program = await anyio.to_thread.run_sync(postgrest_binary.binary)
        serves["real"] = partial(_real, program)
    except postgrest_binary.Absent as exc:
        absent = str(exc)

    async with postgres.running(tmp_path_factory.mktemp("plane") / "pg") as server:
        databases = await anyio.to_thread.run_sync(Databases, server)
        with databases.admin("postgres") as admin:
            admin.execute(f"alter role authenticator password '{server.password}'".encode())

        async def tell(name: str) -> None:
            answers[name] = await _told(serves[name], databases)

        async with anyio.create_task_group() as tasks:
            for name in serves:
                tasks.start_soon(tell, name)
    return Told(answers["gateway"], answers["real"], absent)


def _expected_of_gateway(name: str) -> Expected:
    instead = OF[name].gateway if name in OF else None
    return instead or _EXCHANGES[name].expected


@pytest.mark.parametrize("name", _EXCHANGES)
async def test_the_gateway_answers_as_expected(name: str, told: Told) -> None:
    assert faults(_expected_of_gateway(name), told.gateway[name]) == []


@pytest.mark.parametrize("name", _EXCHANGES)
async def test_postgrest_12_answers_as_expected_and_as_the_gateway(name: str, told: Told) -> None:
    if told.absent:
        pytest.skip(told.absent)
    gateway, real = told.gateway[name], told.real[name]
    assert faults(_EXCHANGES[name].expected, real) == []
    if name not in OF:
        assert gateway == real
        return
    assert gateway != real, "they agree: take it off the list of differences"
    if OF[name].gateway is None:
        assert _without_hint(gateway) == _without_hint(real)


async def test_each_difference_is_of_an_exchange() -> None:
    assert OF.keys() <= _EXCHANGES.keys()


def _without_hint(answer: Mapping[str, object]) -> dict[str, object]:
    body = answer["body"]
    assert isinstance(body, dict)
    return {**answer, "body": {**body, "hint": None}}


@pytest.mark.parametrize("function", plane_hostile.functions(), ids=lambda each: each.name)
@pytest.mark.parametrize("role", plane_hostile.ROLES)
async def test_every_function_has_its_exchanges(function: Function, role: str) -> None:
    """One that succeeds for each role that may call it, a refusal for each that may not."""
    statuses = {
        exchange.expected.status
        for exchange in _EXCHANGES.values()
        if exchange.path.partition("?")[0] == f"/rpc/{function.name}" and role_of(exchange) == role
    }
    if role not in function.roles:
        assert statuses & {401, 403} or function.schema != "public"
        return
    assert statuses & ({200, 204} if function.schema == "public" else {404})


async def test_every_name_is_used_once() -> None:
    assert len(_EXCHANGES) == sum(isinstance(step, Exchange) for step in _STEPS)


async def test_every_table_is_read() -> None:
    assert plane_hostile.tables() == set(plane_tables.TABLES)
