"""What each failure of the control plane becomes, and what the agent sends, over real sockets."""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
import pytest
import pytest_asyncio
from aiohttp import web

from tendril_rt.control.client import AgentInfo, ControlPlane, control_plane
from tendril_rt.control.owner import Owner, owner
from tendril_rt.errors import ControlPlaneError, LeaseLost, Rejected, Unauthorized, Unavailable
from tendril_rt.model import (
    AgentId,
    Cancel,
    Chunk,
    ClaimId,
    ClusterId,
    HeartbeatAnswer,
    Lease,
    Outcome,
    Phase,
    ProvisionId,
    RealtimeToken,
    Status,
    StreamType,
)
from tendril_rt.settings import ControlSettings

pytestmark = pytest.mark.integration

_TOKEN = "tdl_this-never-leaves-the-process"
_TOKEN_HASH = hashlib.sha256(_TOKEN.encode()).hexdigest()
_CLUSTER = ClusterId("c0000000-0000-4000-8000-000000000001")
_AGENT = AgentId("a0000000-0000-4000-8000-000000000001")
_CLAIM = ClaimId("d0000000-0000-4000-8000-000000000001")
_PROVISION = ProvisionId("b0000000-0000-4000-8000-000000000001")
_LEASE = Lease(_PROVISION, 2, _AGENT)
_API_KEY = "the-anon-key"
_TIMEOUT_S = 0.3
_LATE_S = 3.0
_HEARTBEAT = {"leases": [], "drain": False, "lease_ttl_s": 90}
_REPORTED = {"status": "FAILED", "changed": True}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request as the server saw it."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: str


@dataclass
class Server:
    """Answers every request with *answer* and remembers what it was asked."""

    url: str = ""
    answer: Handler = field(default=lambda _: _json(_HEARTBEAT))
    received: list[Received] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.text()
        self.received.append(Received(request.path, dict(request.query), headers, body))
        return await self.answer(request)

    def answers(self, body: object, *, status: int = 200, kind: str = "application/json") -> None:
        """Answer with *body* from now on: text as it is, anything else as JSON."""
        text = body if isinstance(body, str) else json.dumps(body)

        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=text, content_type=kind)

        self.answer = answer


async def _json(body: object) -> web.Response:
    return web.json_response(body)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        with anyio.move_on_after(_LATE_S, shield=True):
            await runner.cleanup()


def _settings(url: str) -> ControlSettings:
    return ControlSettings(
        cluster_id=_CLUSTER,
        api_token=_TOKEN,
        url=url,
        api_key=_API_KEY,
        request_timeout_s=_TIMEOUT_S,
    )


@pytest_asyncio.fixture
async def control(server: Server) -> AsyncIterator[ControlPlane]:
    async with control_plane(_settings(server.url)) as control:
        yield control


@pytest_asyncio.fixture
async def user(server: Server) -> AsyncIterator[Owner]:
    async with owner(server.url, _API_KEY, "the-owners-jwt") as user:
        yield user


async def _beat(control: ControlPlane) -> HeartbeatAnswer:
    agent = AgentInfo(_AGENT, "host-1", "0.1.0", 4)
    return await control.heartbeat(agent, {_LEASE: Phase.PLAN}, is_draining=False)


async def _claim(control: ControlPlane) -> object:
    return await control.claim(_AGENT, _CLAIM)


async def _append(control: ControlPlane) -> object:
    text = "ünïcode\n"
    return await control.append_chunks(_LEASE, 7, [Chunk(7, 100, StreamType.STDERR, text)])


async def _finish(control: ControlPlane) -> None:
    outcome = Outcome(Status.FAILED, "terraform plan failed", "TERRAFORM_FAILED")
    await control.finish(_LEASE, outcome, log_chunks=9, metadata={"commit": "abc"})


async def _realtime_token(control: ControlPlane) -> object:
    return await control.realtime_token()


_EVERY_CALL = pytest.mark.parametrize("call", [_beat, _claim, _append, _finish, _realtime_token])
Call = Callable[[ControlPlane], Awaitable[object]]


async def _failure(call: Awaitable[object]) -> ControlPlaneError:
    with pytest.raises(ControlPlaneError) as caught:
        await call
    return caught.value


def _pg(code: str, message: str, hint: str | None = None) -> dict[str, str | None]:
    return {"code": code, "message": message, "details": None, "hint": hint}


_INVALID_KEY = {
    "message": "Invalid API key",
    "hint": "Double check your Supabase `anon` or `service_role` API key.",
}
_NO_FUNCTION = _pg(
    "PGRST202",
    "Could not find the function public.agent_heartbeat(p_agent) in the schema cache",
    "Perhaps you meant to call the function public.other",
)


@dataclass(frozen=True)
class Refusal:
    """An answer, and what the agent must make of it."""

    status: int
    body: object
    error: type[ControlPlaneError]
    retryable: bool
    says: tuple[str, ...]

    def __str__(self) -> str:
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return f"{self.status}-{code or 'plain'}"


_REFUSALS = [
    Refusal(503, "upstream is down", Unavailable, True, ("503", "upstream is down")),
    Refusal(502, "<html>Bad Gateway</html>", Unavailable, True, ("502", "Bad Gateway")),
    Refusal(500, _pg("XX000", "out of disk"), Unavailable, True, ("500 (XX000)", "out of disk")),
    Refusal(504, _pg("PGRST003", "pool timed out"), Unavailable, True, ("504 (PGRST003)",)),
    Refusal(500, "", Unavailable, True, ("500", "nothing")),
    Refusal(500, ["not", "an", "object"], Unavailable, True, ("500",)),
    Refusal(429, {"message": "slow down"}, Unavailable, True, ("429", "slow down")),
    Refusal(429, _pg("PT429", "too many agents"), Unavailable, True, ("PT429", "too many agents")),
    Refusal(408, "request timeout", Unavailable, True, ("408",)),
    Refusal(
        401,
        _pg("PT401", "unknown cluster or token"),
        Unauthorized,
        False,
        ("TENDRIL_CLUSTER_ID", "TENDRIL_API_TOKEN", "rotate the token"),
    ),
    Refusal(401, _INVALID_KEY, Unauthorized, False, ("Invalid API key", "SUPABASE_KEY")),
    Refusal(403, _pg("42501", "permission denied"), Unauthorized, False, ("SUPABASE_KEY",)),
    Refusal(409, _pg("PT409", "a newer attempt exists"), LeaseLost, False, ("a newer attempt",)),
    Refusal(409, _pg("23505", "duplicate key"), Rejected, False, ("duplicate key",)),
    Refusal(
        422,
        _pg("PT422", "p_status must be legal", "SUCCESS or FAILED"),
        Rejected,
        False,
        ("422 (PT422)", "p_status must be legal", "SUCCESS or FAILED"),
    ),
    Refusal(404, _NO_FUNCTION, Rejected, False, ("agent_heartbeat", "apply sql/migrations")),
    Refusal(404, "404 page not found", Unavailable, True, ("404", "page not found", "proxy")),
    Refusal(302, "", Unavailable, True, ("302", "proxy")),
    Refusal(413, "<html>too large</html>", Rejected, False, ("413",)),
    Refusal(400, _pg("22P02", "invalid input syntax"), Rejected, False, ("22P02",)),
]


@pytest.mark.parametrize("refusal", _REFUSALS, ids=str)
async def test_a_refusal_has_its_class_and_says_what_was_said(
    server: Server, control: ControlPlane, refusal: Refusal
) -> None:
    kind = "text/html" if isinstance(refusal.body, str) else "application/json"
    server.answers(refusal.body, status=refusal.status, kind=kind)

    error = await _failure(_beat(control))

    assert type(error) is refusal.error
    assert error.retryable is refusal.retryable
    for words in refusal.says:
        assert words in str(error)


@pytest.mark.parametrize("refusal", _REFUSALS, ids=str)
async def test_an_owner_is_told_the_same_when_reading(
    server: Server, user: Owner, refusal: Refusal
) -> None:
    kind = "text/html" if isinstance(refusal.body, str) else "application/json"
    server.answers(refusal.body, status=refusal.status, kind=kind)

    assert type(await _failure(user.provision(_PROVISION))) is refusal.error


async def test_a_message_without_end_is_cut(server: Server, control: ControlPlane) -> None:
    server.answers(_pg("XX000", "x" * 100_000), status=500)

    assert len(str(await _failure(_beat(control)))) < 1000


async def test_a_page_instead_of_json_is_no_answer(server: Server, control: ControlPlane) -> None:
    server.answers("<html>Sign in to the hotel's network</html>", kind="text/html")

    error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert "text/html" in str(error)
    assert "is SUPABASE_URL the control plane, or does a proxy stand in between?" in str(error)


@_EVERY_CALL
async def test_every_call_tells_a_lost_lease_from_an_outage(
    server: Server, control: ControlPlane, call: Call
) -> None:
    server.answers(_pg("PT409", "a newer attempt exists"), status=409)
    assert type(await _failure(call(control))) is LeaseLost

    server.answers("upstream is down", status=503, kind="text/plain")
    assert type(await _failure(call(control))) is Unavailable


@pytest.mark.parametrize("body", ["", "{", '{"leases": [', "not json", "\ufeff{}", '{"a": 1} tail'])
async def test_broken_json_is_no_answer(server: Server, control: ControlPlane, body: str) -> None:
    server.answers(body)

    error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert "SUPABASE_URL" in str(error)


@_EVERY_CALL
async def test_no_call_takes_broken_json_for_a_success(
    server: Server, control: ControlPlane, call: Call
) -> None:
    server.answers("[{")

    assert type(await _failure(call(control))) is Unavailable


@pytest.mark.parametrize("body", ["", "{", "not json", '{"a": 1}', '"text"', "null"])
async def test_an_owner_does_not_take_a_broken_answer_for_an_empty_table(
    server: Server, user: Owner, body: str
) -> None:
    server.answers(body)

    assert type(await _failure(user.provision(_PROVISION))) is Unavailable


@pytest.mark.parametrize("body", [None, [], {}, 1, "text", {"token": 5}, [{"id": 1}]])
async def test_an_owner_does_not_take_another_shape_for_a_registration(
    server: Server, user: Owner, body: object
) -> None:
    server.answers(json.dumps(body))

    assert type(await _failure(user.register_cluster("new"))) is Unavailable


_SHAPES: list[object] = [None, [], {}, 1, True, "text", [1], [None], [{}], {"message": "hello"}]
_HEARTBEAT_SHAPES = [
    *_SHAPES,
    {**_HEARTBEAT, "leases": None},
    {**_HEARTBEAT, "leases": ["x"]},
    {**_HEARTBEAT, "leases": [{"provision_id": _PROVISION, "held": True, "cancel": "maybe"}]},
    {**_HEARTBEAT, "lease_ttl_s": None},
    {**_HEARTBEAT, "lease_ttl_s": "soon"},
]


def _expects_unavailable(call: Call, shapes: list[object]) -> list[object]:
    return [
        pytest.param(call, shape, id=f"{call.__name__}-{json.dumps(shape)[:40]}")
        for shape in shapes
    ]


@pytest.mark.parametrize(
    ("call", "body"),
    [
        *_expects_unavailable(_beat, _HEARTBEAT_SHAPES),
        *_expects_unavailable(_claim, [None, {}, 1, True, "x", [1], [None], [{}], [{}, {}]]),
        *_expects_unavailable(_append, [*_SHAPES, {"next_seq": 1}, {"next_seq": "x"}]),
        *_expects_unavailable(_finish, [*_SHAPES, {"status": "fine"}]),
        *_expects_unavailable(_realtime_token, [1, {}, [], "text", {"token": "x"}]),
    ],
)
async def test_json_of_another_shape_is_no_answer(
    server: Server, control: ControlPlane, call: Call, body: object
) -> None:
    server.answers(json.dumps(body))

    error = await _failure(call(control))

    assert type(error) is Unavailable
    assert "is SUPABASE_URL the control plane, and are its migrations applied?" in str(error)


async def test_nobody_listening_is_no_answer(server: Server) -> None:
    async with control_plane(_settings("http://127.0.0.1:1")) as control:
        error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert "no answer from 127.0.0.1:1: ConnectError" in str(error)
    assert "Check SUPABASE_URL, DNS, the proxy and the firewall" in str(error)


async def test_a_name_that_nobody_knows_is_no_answer() -> None:
    async with control_plane(_settings("http://project.invalid")) as control:
        error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert "no answer from project.invalid" in str(error)


def _cut_after(status: int, sent: bytes) -> Handler:
    """Promise more than *sent*, then drop the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        response.content_type = "application/json"
        response.content_length = 1000
        await response.prepare(request)
        await response.write(sent)
        assert request.transport
        request.transport.abort()
        return response

    return answer


@pytest.mark.parametrize("status", [200, 500, 401])
@pytest.mark.parametrize("sent", [b"", b'{"leases": [], '])
async def test_a_connection_that_breaks_in_mid_answer_is_no_answer(
    server: Server, control: ControlPlane, status: int, sent: bytes
) -> None:
    server.answer = _cut_after(status, sent)

    error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert "no answer from 127.0.0.1" in str(error)


async def test_an_owner_is_told_of_a_broken_connection_too(server: Server, user: Owner) -> None:
    server.answer = _cut_after(200, b"[{")

    assert type(await _failure(user.provision(_PROVISION))) is Unavailable


async def test_an_answer_that_cannot_be_unpacked_is_no_answer(
    server: Server, control: ControlPlane
) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=b"this is not gzip", headers=headers)

    server.answer = answer

    assert type(await _failure(_beat(control))) is Unavailable


@_EVERY_CALL
async def test_no_answer_in_time_is_no_answer(
    server: Server, control: ControlPlane, call: Call
) -> None:
    async def answer(_: web.Request) -> web.Response:
        await anyio.sleep(_LATE_S)
        return web.json_response(_HEARTBEAT)

    server.answer = answer
    asked_at = anyio.current_time()

    error = await _failure(call(control))

    assert type(error) is Unavailable
    assert "no answer from 127.0.0.1" in str(error)
    assert "Timeout" in str(error)
    assert _TIMEOUT_S <= anyio.current_time() - asked_at < _LATE_S


async def test_an_answer_that_comes_in_drops_is_not_waited_for_either(
    server: Server, control: ControlPlane
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        for _ in range(int(_LATE_S / 0.1)):
            await response.write(b" ")
            await anyio.sleep(0.1)
        await response.write(json.dumps(_HEARTBEAT).encode())
        return response

    server.answer = answer
    asked_at = anyio.current_time()

    error = await _failure(_beat(control))

    assert type(error) is Unavailable
    assert anyio.current_time() - asked_at < _LATE_S / 2


async def test_the_next_call_after_a_failure_works(server: Server, control: ControlPlane) -> None:
    server.answer = _cut_after(200, b"{")
    await _failure(_beat(control))
    server.answers(_HEARTBEAT)

    assert (await _beat(control)).lease_ttl_s == 90.0


async def test_a_failure_is_never_tried_again_behind_the_callers_back(
    server: Server, control: ControlPlane, user: Owner
) -> None:
    server.answers("down", status=503, kind="text/plain")
    await _failure(_beat(control))
    await _failure(user.provision(_PROVISION))
    server.answer = _cut_after(200, b"[{")
    await _failure(user.provision(_PROVISION))

    assert len(server.received) == 3


_GOOD_ANSWERS: list[tuple[Call, object]] = [
    (_beat, _HEARTBEAT),
    (_claim, []),
    (_append, {"next_seq": 8, "accepted": True, "cancel": "none"}),
    (_finish, _REPORTED),
    (_realtime_token, None),
]


async def test_the_token_itself_is_never_sent(server: Server, control: ControlPlane) -> None:
    for call, body in _GOOD_ANSWERS:
        server.answers(json.dumps(body))
        await call(control)

    assert len(server.received) == len(_GOOD_ANSWERS)
    for request in server.received:
        assert _TOKEN not in str(request)
        assert json.loads(request.body)["p_token_hash"] == _TOKEN_HASH
        assert json.loads(request.body)["p_cluster_id"] == _CLUSTER
        assert request.headers["x-cluster-id"] == _CLUSTER
        assert request.headers["x-agent-token"] == _TOKEN_HASH[:12]
        assert _TOKEN_HASH not in str(request.headers) + str(request.query)
        assert request.headers["apikey"] == _API_KEY
        assert request.headers["authorization"] == f"Bearer {_API_KEY}"


async def test_a_claim_repeats_the_claim_id_that_it_is_given(
    server: Server, control: ControlPlane
) -> None:
    server.answer = _cut_after(200, b"[")
    await _failure(_claim(control))
    server.answers([])
    assert await _claim(control) is None

    lost, repeated = server.received
    assert lost.path == repeated.path == "/rest/v1/rpc/fetch_next_provision"
    assert lost.body == repeated.body
    assert json.loads(lost.body)["p_claim_id"] == _CLAIM
    assert json.loads(lost.body)["p_agent_id"] == _AGENT


async def test_a_claim_keeps_every_digit_of_the_snapshot(
    server: Server, control: ControlPlane
) -> None:
    snapshot = '{"terraform_vars": {"n": 12345678901234567890123, "x": 1.10}}'
    row = {
        **{"id": _PROVISION, "cluster_id": _CLUSTER, "attempt": 2, "operation": "APPLY"},
        **{"stack_key": "s", "configuration_hash": None, "config_snapshot": snapshot},
    }
    server.answers([row])

    provision = await control.claim(_AGENT, _CLAIM)

    assert provision
    assert provision.lease == _LEASE
    assert provision.snapshot_json == snapshot
    assert "config_snapshot::text" in server.received[0].query["select"]


async def test_a_heartbeat_lists_leases_with_their_phases(
    server: Server, control: ControlPlane
) -> None:
    lease = {"provision_id": _PROVISION, "held": False, "cancel": "force"}
    server.answers({"leases": [lease], "drain": True, "lease_ttl_s": 45})

    answer = await _beat(control)

    sent = json.loads(server.received[0].body)["p_agent"]
    assert sent["leases"] == [{"provision_id": _PROVISION, "attempt": 2, "phase": "PLAN"}]
    assert (sent["id"], sent["state"]) == (_AGENT, "ONLINE")
    assert answer.drain
    assert answer.lease_ttl_s == 45
    assert not answer.leases[_PROVISION].held
    assert answer.leases[_PROVISION].cancel is Cancel.FORCE


async def test_chunks_travel_with_their_numbers_and_offsets(
    server: Server, control: ControlPlane
) -> None:
    server.answers({"next_seq": 8, "accepted": True, "cancel": "graceful"})

    await _append(control)

    sent = json.loads(server.received[0].body)
    assert sent["p_first_seq"] == 7
    assert sent["p_chunks"] == [{"s": "STDERR", "o": 100, "t": "ünïcode\n"}]
    assert (sent["p_attempt"], sent["p_agent_id"]) == (2, _AGENT)


async def test_an_outcome_travels_with_the_fencing_token_and_the_count_of_chunks(
    server: Server, control: ControlPlane
) -> None:
    server.answers(_REPORTED)

    await _finish(control)

    sent = json.loads(server.received[0].body)
    assert (sent["p_attempt"], sent["p_agent_id"], sent["p_log_chunks"]) == (2, _AGENT, 9)
    assert (sent["p_status"], sent["p_error_code"]) == ("FAILED", "TERRAFORM_FAILED")
    assert sent["p_error_message"] == "terraform plan failed"


async def test_an_outcome_that_quotes_a_nul_is_one_that_postgres_can_hold(
    server: Server, control: ControlPlane
) -> None:
    server.answers(_REPORTED)

    outcome = Outcome(Status.FAILED, "it said: b\0ad", "TERRAFORM_FAILED")
    await control.finish(_LEASE, outcome, log_chunks=0, metadata={})

    assert json.loads(server.received[0].body)["p_error_message"] == "it said: bad"


async def test_no_content_is_a_success_without_an_answer(
    server: Server, control: ControlPlane
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=204)

    server.answer = answer

    assert await control.realtime_token() is None


async def test_a_listening_token_is_read(server: Server, control: ControlPlane) -> None:
    server.answers({"token": "a.b.c", "expires_in_s": 3600})

    assert await control.realtime_token() == RealtimeToken("a.b.c", 3600.0)
