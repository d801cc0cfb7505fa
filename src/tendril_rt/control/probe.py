"""Single looks at the way to the control plane, for diagnosis: name, port, certificate, one answer.

Each takes nothing for granted that the one before it showed, tries once and raises what it saw,
untranslated where the kind of failure is the finding. Changes nothing at the control plane beyond
what asking for a listening token does.
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
import orjson
from anyio.streams.tls import TLSAttribute

_LOOPBACK = ("127.0.0.1", "localhost")  # never through a proxy, see control/rest.py
_MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class Route:
    """Where connections go first.

    :ivar proxy: the proxy's address without credentials, or None for the direct way
    :ivar is_tls: the control plane's URL is https
    """

    host: str
    port: int
    proxy: str | None
    is_tls: bool


def route_to(url: str) -> Route:
    """Return the first hop towards *url*, by the proxy settings of the environment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_tls = parts.scheme == "https"
    proxies = getproxies()
    named = proxies.get(parts.scheme) or proxies.get("all")
    if named and host not in _LOOPBACK and not proxy_bypass(host):
        via = urlsplit(named if "://" in named else f"http://{named}")
        port = via.port or (443 if via.scheme == "https" else 80)
        return Route(via.hostname or "", port, f"{via.scheme}://{via.hostname}:{port}", is_tls)
    return Route(host, parts.port or (443 if is_tls else 80), None, is_tls)


async def addresses_of(route: Route) -> list[str]:
    """Return the addresses of the first hop.

    :raises OSError: the name is not known, or nobody answers for names
    """
    found = await anyio.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


async def connect(route: Route) -> None:
    """Open and close one TCP connection.

    :raises OSError: refused, unreachable, timed out
    """
    stream = await anyio.connect_tcp(route.host, route.port)
    await stream.aclose()


async def handshake(route: Route) -> str:
    """Do one TLS handshake, trusting whom HTTP trusts; return protocol and the certificate's end.

    :raises ssl.SSLCertVerificationError: the certificate is not good
    :raises ssl.SSLError: what answers speaks no TLS that we speak
    :raises OSError: no connection
    """
    stream = await anyio.connect_tcp(
        route.host,
        route.port,
        ssl_context=httpx.create_ssl_context(),
        tls_standard_compatible=False,
    )
    try:
        tls = stream.extra(TLSAttribute.ssl_object)  # noqa: S610 - no Django
        certificate = tls.getpeercert() or {}
        return f"{tls.version()}, certificate good until {certificate.get('notAfter')}"
    finally:
        await stream.aclose()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one call of a function.

    :ivar code: SQLSTATE or PostgREST's code, where the body has one
    :ivar message: what it says, or the beginning of what is no JSON
    :ivar at: the server's clock, to the second, where it said it
    """

    status: int
    is_json: bool
    code: str | None
    message: str
    at: datetime | None


async def ask(
    url: str, api_key: str, function: str, arguments: Mapping[str, object], *, timeout_s: float
) -> Answer:
    """Call a function once and return the answer as it is, of whatever server.

    :raises httpx.RequestError: no answer
    """
    async with httpx.AsyncClient(
        timeout=timeout_s, mounts={f"all://{host}": None for host in _LOOPBACK}
    ) as session:
        response = await session.post(
            f"{url}/rest/v1/rpc/{function}",
            content=orjson.dumps(arguments),
            headers={
                "apikey": api_key,
                "Authorization": f"Bearer {api_key}",
                "content-type": "application/json",
            },
        )
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        text = response.text[:_MAX_TEXT].strip()
        return Answer(response.status_code, False, None, text, _date_of(response))
    fields = body if isinstance(body, dict) else {}
    code = fields.get("code")
    return Answer(
        response.status_code,
        True,
        str(code) if code is not None else None,
        str(fields.get("message", ""))[:_MAX_TEXT],
        _date_of(response),
    )


def certificate_fault(exc: ssl.SSLCertVerificationError) -> tuple[str, str]:
    """Return what is wrong with a certificate, and the cure."""
    known = {
        10: ("it has expired", "renew it at the control plane, or set this machine's clock"),
        9: ("it is not valid yet", "set this machine's clock"),
        18: ("it signs itself", _TRUST),
        19: ("its chain ends in a root that is not trusted here", _TRUST),
        20: ("its issuer is not known here", _TRUST),
        62: ("it is for another name", "correct the host of SUPABASE_URL"),
        64: ("it is for another address", "name the host, not its address, in SUPABASE_URL"),
    }
    return known.get(exc.verify_code, (exc.verify_message, _TRUST))


_TRUST = (
    "if a proxy or your own control plane uses a private authority, put its certificate with the "
    "public ones into a file and name that in SSL_CERT_FILE; else somebody stands in between"
)


def _date_of(response: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers["date"])
    except (KeyError, ValueError):
        return None
