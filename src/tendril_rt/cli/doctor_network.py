"""The way from this host to the control plane, hop by hop: what fails first names the cure."""

import hashlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import anyio
import httpx

from tendril_rt.cli.doctor_findings import Finding, fail, ok, warn
from tendril_rt.control import probe
from tendril_rt.control.client import ControlPlane, control_plane
from tendril_rt.control.diagnosis import diagnose
from tendril_rt.control.probe import Answer, Route
from tendril_rt.settings import ControlSettings

_HOP_LIMIT_S = 8.0
_PUSH_LIMIT_S = 25.0  # the real server says that it is ready up to some seconds after the join
_SKEW_WORTH_A_LINE_S = 5.0
_SKEW_THAT_CLOUDS_REFUSE_S = 240.0
#: Every function an agent calls, with arguments of nobody: refused before anything is done.
_FUNCTIONS = {
    "agent_heartbeat": ("p_agent",),
    "fetch_next_provision": ("p_agent_id", "p_claim_id"),
    "insert_provision_logs": (
        *("p_provision_id", "p_attempt", "p_agent_id", "p_first_seq", "p_chunks"),
    ),
    "update_provision_status": (
        *("p_provision_id", "p_status", "p_error_message", "p_attempt", "p_agent_id"),
        *("p_log_chunks", "p_error_code", "p_execution_metadata"),
    ),
    "agent_realtime_token": (),
}
_NOBODY = "00000000-0000-0000-0000-000000000000"


async def check_network(settings: ControlSettings) -> list[Finding]:
    """Go as far as it goes; everything beyond the first broken hop is left out."""
    route = probe.route_to(settings.url)
    findings: list[Finding] = []
    if route.proxy:
        findings.append(ok("proxy", f"{route.proxy}, by the environment (HTTPS_PROXY, NO_PROXY)"))
    for hop in (_dns, _tcp, _tls):
        findings.append(await _limited(hop, route))
        if findings[-1].cure:
            return findings
    answered, more = await _rest(settings)
    findings += more
    if answered:
        findings += await _schema(settings)
        async with control_plane(settings) as control:
            findings += await push(settings, control)
    return findings


async def push(settings: ControlSettings, control: ControlPlane) -> list[Finding]:
    """Listen until each path is known to work or not, then hang up."""
    if not settings.realtime:
        cure = "unset TENDRIL_REALTIME to hear of them at once"
        return [warn("realtime", "switched off: provisions are found by polling", cure)]
    paths = await diagnose(settings, fetch_token=control.realtime_token, within_s=_PUSH_LIMIT_S)
    return [
        ok("realtime", f"{path.value}: {finding.why}")
        if finding.works
        else warn("realtime", f"{path.value}: {finding.why}", _NO_PUSH)
        for path, finding in paths.items()
    ]


async def _limited(check: Callable[[Route], Awaitable[Finding]], route: Route) -> Finding:
    try:
        with anyio.fail_after(_HOP_LIMIT_S):
            return await check(route)
    except TimeoutError:
        where = f"{route.host} port {route.port}"
        cure = "a firewall that drops packets looks like this: allow outbound HTTPS"
        return fail(check.__name__.strip("_"), f"{where}: no answer in {_HOP_LIMIT_S:g} s", cure)


async def _dns(route: Route) -> Finding:
    try:
        addresses = await probe.addresses_of(route)
    except (socket.gaierror, UnicodeError) as exc:
        cure = "correct SUPABASE_URL (or the proxy's address), or this host's DNS"
        return fail("dns", f"{route.host}: {exc}", cure)
    return ok("dns", f"{route.host} is {', '.join(addresses)}")


async def _tcp(route: Route) -> Finding:
    where = f"{route.host} port {route.port}"
    try:
        await probe.connect(route)
    except OSError as exc:
        cure = "correct host and port of SUPABASE_URL, or allow outbound connections to it"
        return fail("tcp", f"{where}: {_reason(exc)}", cure)
    return ok("tcp", f"{where} takes connections")


async def _tls(route: Route) -> Finding:
    if not route.is_tls:
        return ok("tls", "none: SUPABASE_URL is http, fit for this machine alone")
    if route.proxy:
        return ok("tls", "goes through the proxy: see rest")
    try:
        return ok("tls", await probe.handshake(route))
    except ssl.SSLCertVerificationError as exc:
        what, cure = probe.certificate_fault(exc)
        return fail("tls", f"the certificate of {route.host} is not good: {what}", cure)
    except ssl.SSLError as exc:
        cure = "SUPABASE_URL says https: is there TLS on that port, or a proxy that breaks it?"
        return fail("tls", f"{route.host} port {route.port}: {exc.reason or exc}", cure)
    except OSError as exc:
        return fail("tls", f"the connection ended during the handshake: {_reason(exc)}", _BETWEEN)


async def _rest(settings: ControlSettings) -> tuple[bool, list[Finding]]:
    """Ask for a listening token, which shows most; True if cluster and token are right."""
    token_hash = hashlib.sha256(settings.api_token.encode()).hexdigest()
    who = {"p_cluster_id": settings.cluster_id, "p_token_hash": token_hash}
    asked_at = datetime.now(UTC)
    try:
        answer = await _ask(settings, "agent_realtime_token", who)
    except httpx.RequestError as exc:
        return False, [fail("rest", f"no answer: {type(exc).__name__} {exc}", _BETWEEN)]
    findings, answered = judge(answer)
    return answered, [*findings, *_clock(answer, asked_at)]


def judge(answer: Answer) -> tuple[list[Finding], bool]:
    """Say what the answer to an authenticated call shows; True if the caller is known."""
    said = f"{answer.status}: {answer.message or answer.code or 'nothing'}"
    if not answer.is_json:
        return [fail("rest", f"something else than PostgREST answers {said}", _BETWEEN)], False
    rest = ok("rest", "PostgREST answers")
    key = ok("key", "the project takes SUPABASE_KEY")
    if answer.code in ("PGRST202", "42883"):
        return [rest, key, fail("schema", "agent_realtime_token is missing", _MIGRATE)], False
    if answer.code == "PT401":
        cure = (
            "they do not belong together, or the token was revoked or has expired: take both from "
            "the registration of the cluster, or rotate the token"
        )
        what = "TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN are refused"
        return [rest, key, fail("token", what, cure)], False
    if answer.status in (401, 403):
        cure = "take the anon (publishable) key of the project at SUPABASE_URL"
        return [rest, fail("key", f"SUPABASE_KEY is refused ({said})", cure)], False
    if answer.status >= 400:
        cure = "the project may be paused or starting: look at its status page and its database"
        return [fail("rest", f"the control plane answers {said}", cure)], False
    return [rest, key, ok("token", "the control plane knows this cluster and its token")], True


async def _schema(settings: ControlSettings) -> list[Finding]:
    missing: list[str] = []

    async def look(function: str, more: tuple[str, ...]) -> None:
        arguments = {"p_cluster_id": _NOBODY, "p_token_hash": "0" * 64, **dict.fromkeys(more)}
        try:
            answer = await _ask(settings, function, arguments)
        except httpx.RequestError as exc:
            missing.append(f"{function} (no answer: {exc})")
        else:
            if answer.code != "PT401":
                missing.append(f"{function} ({answer.code or answer.status})")

    async with anyio.create_task_group() as tasks:
        for function, more in _FUNCTIONS.items():
            tasks.start_soon(look, function, more)
    if missing:
        text = f"not as this agent needs it: {', '.join(sorted(missing))}"
        return [fail("schema", text, _MIGRATE)]
    return [ok("schema", f"the {len(_FUNCTIONS)} functions that agents call are there")]


async def _ask(settings: ControlSettings, function: str, arguments: Mapping[str, object]) -> Answer:
    return await probe.ask(
        settings.url,
        settings.api_key,
        function,
        arguments,
        timeout_s=settings.request_timeout_s,
    )


def _clock(answer: Answer, asked_at: datetime) -> list[Finding]:
    if answer.at is None:
        return []
    # The header has whole seconds, and was written between asking and now.
    skew_s = (asked_at - answer.at).total_seconds()
    ahead = "ahead of" if skew_s > 0 else "behind"
    text = f"this machine's clock is {abs(skew_s):.0f} s {ahead} the control plane's"
    cure = "run a time service (chrony, systemd-timesyncd) on this host"
    if abs(skew_s) > _SKEW_THAT_CLOUDS_REFUSE_S:
        return [fail("clock", f"{text}: cloud providers refuse requests signed like that", cure)]
    if abs(skew_s) > _SKEW_WORTH_A_LINE_S:
        return [warn("clock", text, cure)]
    return [ok("clock", "agrees with the control plane's")]


def _reason(exc: BaseException) -> str:
    """Return the innermost message: libraries wrap each attempt to connect."""
    while True:
        if isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        elif exc.__cause__ is not None:
            exc = exc.__cause__
        elif isinstance(exc, OSError) and exc.errno is not None and exc.errno > 0:
            return os.strerror(exc.errno)
        else:
            return str(exc)


_BETWEEN = (
    "is SUPABASE_URL the project's URL? A captive portal, a proxy's login page or a firewall may "
    "stand in between"
)
_NO_PUSH = (
    "let WebSockets (wss) through proxies and firewalls, and do as the line says; until then "
    "provisions are found by polling, which TENDRIL_REALTIME=false makes final"
)
_MIGRATE = "apply sql/migrations to the project (grape migrate)"
