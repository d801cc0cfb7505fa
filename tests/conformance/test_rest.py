"""The gateway, and the real PostgREST 12.0.2 where it can be had, against the recorded 14.17."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg
import pytest
import pytest_asyncio

from tendril_rt.errors import LocalError
from tendril_rt.local import postgres
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.app import GatewayConfig, serving

from . import postgrest_binary
from .rest_cases import (
    CASES,
    SECRET,
    Case,
    CaseName,
    Request,
    Response,
    Target,
    comparable,
    prepare,
    send,
)
from .rest_scope import DIFFERENCES, NOT_POSTGREST, OUT_OF_SCOPE, PAGE, Change, tables

pytestmark = [pytest.mark.conformance, pytest.mark.asyncio(loop_scope="session")]

_ANON_KEY = tokens.sign({"role": "anon"}, SECRET)
_SERVICE_ROLE_KEY = tokens.sign({"role": "service_role"}, SECRET)
_LEFT_OUT = {name for names in OUT_OF_SCOPE.values() for name in names}
_RECOVERY_S = 10.0
_PLAN = '{"n": [1, 2], "kind": "plan"}'
_ALPHA = "00000000-0000-4000-8000-00000000000a"

Answers = Mapping[CaseName, Response]


@asynccontextmanager
async def _gateway(server: postgres.Server) -> AsyncIterator[Target]:
    config = GatewayConfig(
        admin_url=server.url(),
        authenticator_url=await prepare(server),
        jwt_secret=SECRET,
        anon_key=_ANON_KEY,
        service_role_key=_SERVICE_ROLE_KEY,
    )
    async with serving(config) as url:
        yield Target(f"{url}/rest/v1", {"apikey": _ANON_KEY})


@asynccontextmanager
async def _real(server: postgres.Server, program: Path) -> AsyncIterator[Target]:
    with postgrest_binary.serving(program, await prepare(server), SECRET) as url:
        yield Target(url)


async def _ask(
    target: Target, path: str, body: str | None = None, method: str = "", **headers: str
) -> Response:
    request = Request(
        method=method or ("GET" if body is None else "POST"),
        path=path,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
    )
    return await anyio.to_thread.run_sync(send, target, Case(request=request))


async def _ask_until_there(target: Target, path: str) -> Response:
    """Call a function that appears, or comes back, within a moment."""
    with anyio.fail_after(_RECOVERY_S):
        while True:
            answer = await _ask(target, path, "{}")
            if answer["status"] not in (404, 503):
                return answer
            await anyio.sleep(0.02)


async def _replay(folder: Path, program: Path | None = None) -> Answers:
    """Return the answer to every case, the last ones given while the database is stopped.

    :param program: the real PostgREST; None: the gateway
    """
    answers = dict[CaseName, Response]()
    async with AsyncExitStack() as serving_stack, AsyncExitStack() as database_stack:
        server = await database_stack.enter_async_context(postgres.running(folder))
        served = _real(server, program) if program else _gateway(server)
        target = await serving_stack.enter_async_context(served)
        for name, case in CASES.items():
            if "condition" in case:
                await database_stack.aclose()
            answers[name] = await anyio.to_thread.run_sync(send, target, case)
        async with postgres.running(folder, port=server.port):
            await _ask_until_there(target, "/rpc/f_int")
    return answers


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def gateway_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return await _replay(tmp_path_factory.mktemp("gateway") / "pg")


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def real_answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    try:
        program = await anyio.to_thread.run_sync(postgrest_binary.binary)
    except postgrest_binary.Absent as exc:
        pytest.skip(str(exc))
    return await _replay(tmp_path_factory.mktemp("postgrest") / "pg", program)


@pytest.mark.parametrize("name", [n for n in CASES if n not in _LEFT_OUT | {NOT_POSTGREST}])
async def test_gateway_answers_as_recorded(name: CaseName, gateway_answers: Answers) -> None:
    assert comparable(gateway_answers[name]) == comparable(CASES[name]["response"])


@pytest.mark.parametrize("name", sorted(_LEFT_OUT))
async def test_gateway_says_what_it_leaves_out(name: CaseName, gateway_answers: Answers) -> None:
    answer = gateway_answers[name]
    assert answer["status"] == 501
    assert '"code":"TENDRIL501"' in answer["body"]
    assert "does not offer" in answer["body"]


@pytest.mark.parametrize("name", CASES)
async def test_postgrest_12_answers_as_recorded_or_as_listed(
    name: CaseName, real_answers: Answers
) -> None:
    listed: dict[CaseName, Change] = {}
    for difference in DIFFERENCES:
        listed |= difference["cases"]
    change = listed.get(name, {})
    got, want = comparable(real_answers[name]), comparable(CASES[name]["response"])
    headers = {**CASES[name]["response"]["headers"], **change.get("headers", {})}
    headers.pop("proxy-status", None)  # newer than 12
    want |= {**change, "headers": {n: value for n, value in headers.items() if value is not None}}
    if want["body"] == "*":
        want["body"] = got["body"]
    assert got == want


async def test_the_page_lists_what_is_left_out_and_what_differs() -> None:
    assert tables() in PAGE.read_text(encoding="utf-8")


async def test_front_door(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        bare = Target(target.url)
        no_key = await _ask(bare, "/rpc/f_int", "{}")
        assert no_key["status"] == 401
        assert json.loads(no_key["body"]) == {
            "message": "No API key found in request",
            "hint": "No `apikey` request header or url param was found.",
        }
        wrong_key = await _ask(bare, "/rpc/f_int", "{}", apikey="abc")
        assert wrong_key["status"] == 401
        assert json.loads(wrong_key["body"]) == {
            "message": "Invalid API key",
            "hint": "Double check your Supabase `anon` or `service_role` API key.",
        }
        assert (await _ask(bare, f"/rpc/f_int?apikey={_ANON_KEY}", "{}"))["status"] == 200
        as_service = await _ask(bare, "/rpc/f_whoami", "{}", apikey=_SERVICE_ROLE_KEY)
        assert '"current_user": "service_role"' in as_service["body"]
        preflight = await _ask(bare, "/rpc/f_int", method="OPTIONS", Origin="http://example.com")
        assert preflight["status"] == 200
        root = Target(target.url.removesuffix("/rest/v1"))
        assert "embedded control plane" in (await _ask(root, "/"))["body"]
        assert (await _ask(root, "/health"))["status"] == 200
        assert (await _ask(root, "/realtime/v1/websocket"))["status"] == 401


async def test_numbers_survive_digit_by_digit(tmp_path: Path) -> None:
    digits = "12345678901234567890123.456789012345678901234567890"
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        answer = await _ask(target, "/rpc/f_args", f'{{"p_id": 1, "p_opts": {{"n": {digits}}}}}')
        assert f'"n": {digits}' in answer["body"]
        row = f'{{"id": 90, "cluster_id": "{_ALPHA}", "payload": {{"n": {digits}}}}}'
        kept = await _ask(
            target,
            "/provisions?select=payload::text",
            row,
            Prefer="return=representation",
            Authorization=f"Bearer {_SERVICE_ROLE_KEY}",
        )
        assert f'{{\\"n\\": {digits}}}' in kept["body"]


_BEYOND: list[tuple[str, str | None, object]] = [
    ('/provisions?select=id&status=in.("done","a\\"b")', None, [{"id": 1}]),
    ("/provisions?select=id&status=in.(done,a\\b,{})", None, [{"id": 1}]),
    ("/provisions?select=id&finished_at=is.not_null&order=id.desc", None, [{"id": 5}, {"id": 1}]),
    ("/provisions?select=id,id_text:id::text&limit=1&offset=1", None, [{"id": 2, "id_text": "2"}]),
    ("/rpc/f_types?p_ids={1,2}&p_yes=t", None, {"p_ids": [1, 2], "p_yes": True}),
    ("/rpc/f_args?p_id=1&p_opts={}", None, {"p_id": 1, "p_name": "dflt", "p_opts": {}}),
    ("/rpc/f_setof?select=id,payload::text&id=gt.1", "{}", [{"id": 2, "payload": _PLAN}]),
    ("/rpc/f_setof?select=id&id=gt.1", None, [{"id": 2}]),
]


async def test_what_clients_send_beyond_the_recordings(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        for path, body, want in _BEYOND:
            got = json.loads((await _ask_as_service(target, path, body))["body"])
            if isinstance(got, dict) and isinstance(want, dict):
                got = {name: got.get(name) for name in want}
            assert got == want, path


_NOT_OFFERED = (
    ("/provisions?select=payload->n->-1", None, "select=payload->n->-1"),
    ("/provisions?not.or=(id.gt.2)", None, "the parameter not.or"),
    ("/provisions?id=not.in.(1,2,3)", None, "the operator not"),
    ("/provisions?id=eq(any).{1,2}", None, "the operator eq(any)"),
    ("/provisions?order=payload->n", None, "order=payload->n"),
    ('/provisions?columns="id"', "{}", "the parameter columns"),
    ("/provisions", "{}", "inserting a row without columns"),
    ("/", None, "the OpenAPI description"),
)


async def test_what_is_not_offered_is_said_by_name(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        for path, body, feature in _NOT_OFFERED:
            answer = await _ask_as_service(target, path, body)
            assert answer["status"] == 501, path
            assert json.loads(answer["body"])["message"].endswith(f"does not offer {feature}")
        planned = await _ask(target, "/provisions", Prefer="count=planned")
        assert "does not offer Prefer: count=planned" in planned["body"]


async def test_offset_beyond_the_end(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        path = "/provisions?select=id&offset=50"
        counted = await _ask(target, path, Prefer="count=exact")
        assert (counted["status"], '"PGRST103"' in counted["body"]) == (416, True)
        assert (await _ask(target, path))["body"] == "[]"


async def _ask_as_service(target: Target, path: str, body: str | None) -> Response:
    return await _ask(
        target,
        re.sub(r'[ ;"\\]', lambda match: f"%{ord(match[0]):02x}", path),
        body,
        Authorization=f"Bearer {_SERVICE_ROLE_KEY}",
    )


_NEWS = b"""
create function public.f_slow() returns void language sql as 'select pg_sleep(5)';
create function public.f_lines() returns void language plpgsql as $$ begin
  raise sqlstate 'PT409' using message = E'a\\r\\nX-B: c';
end $$;
alter role anon set statement_timeout = '100ms';
notify pgrst, 'reload schema';
"""


async def test_settings_and_functions_follow_a_reload(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        async with await psycopg.AsyncConnection.connect(server.url()) as connection:
            await connection.execute(_NEWS)
        slow = await _ask_until_there(target, "/rpc/f_slow")
        assert (slow["status"], '"57014"' in slow["body"]) == (500, True)
        injected = await _ask(target, "/rpc/f_lines", "{}")
        assert (injected["status"], injected["reason"]) == (409, "a X-B: c")


_HOSTILE = (
    "/provisions?select=id::text;drop table secrets",
    "/provisions?select=id::text) from secrets--",
    "/provisions?id=eq.1'; drop table secrets; --",
    '/provisions?select="id"";drop table secrets"',
    "/provisions?payload->>a'b=eq.1",
    "/provisions?order=id.asc;drop table secrets",
    "/provisions?or=(id.eq.1);drop table secrets",
    "/provisions?id=in.(1,2'))",
    '/provisions?status=in.("}\'")',
    "/provisions?status=eq.100%25s%25(a)s{}",
    "/provisions?id=in.(1\\,2)",
    '/provisions?status=in.("x","\\\\",y")',
    "/provisions?id=is.null;drop table secrets",
    "/provisions?select=id:id::text;drop table secrets",
    "/rpc/f_stable?p_id=1::int);drop table secrets;--",
    "/rpc/f_stable?p_id=1&x'y=1",
)


async def test_nothing_in_a_url_becomes_sql(tmp_path: Path) -> None:
    async with postgres.running(tmp_path / "pg") as server, _gateway(server) as target:
        for path in _HOSTILE:
            answer = await _ask_as_service(target, path, None)
            assert answer["status"] in (200, 400, 501), (path, answer)
            assert '"42601"' not in answer["body"], path  # a syntax error: something was unquoted
        async with await psycopg.AsyncConnection.connect(server.url()) as connection:
            await connection.execute("table public.secrets")


async def test_only_loopback() -> None:
    with pytest.raises(LocalError, match="loopback only"):
        GatewayConfig("", "", SECRET, _ANON_KEY, _SERVICE_ROLE_KEY, host="0.0.0.0")
