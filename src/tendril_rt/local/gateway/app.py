"""The gateway's door: one loopback address with the routes of a Supabase project.

Owns the HTTP server, the check of API keys that Supabase's front does, and the CORS headers that
browsers need. Must never listen beyond loopback, and must never log a request: headers are secret.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

import anyio
import anyio.to_thread
from aiohttp import web

from tendril_rt.errors import LocalError
from tendril_rt.local.dashboard import files
from tendril_rt.local.gateway import auth
from tendril_rt.local.gateway.realtime import Realtime
from tendril_rt.local.gateway.rest import PREFIX, Rest

_ABOUT = (
    "The embedded control plane of tendril-rt: a real Postgres behind the parts of PostgREST, "
    "Realtime and Auth that its clients use.\n"
    "For demos, development and tests; in production use Supabase.\n"
)
_NO_KEY = ("No API key found in request", "No `apikey` request header or url param was found.")
_WRONG_KEY = ("Invalid API key", "Double check your Supabase `anon` or `service_role` API key.")
_MAX_BODY_BYTES = 16 * 2**20
_SHUTDOWN_S = 1.0  # for requests that are being answered
_DASHBOARD = "/dashboard/"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class GatewayConfig:
    """What the gateway must be told; *port* 0 picks a free one.

    :param admin_url: libpq URL of a superuser (Realtime reads the write-ahead log)
    :param authenticator_url: libpq URL of role ``authenticator``, which may become the API's roles
    :param host: an address of loopback; anything else is a LocalError
    :param changes_interval_s: hold postgres_changes until the next multiple of it, as Supabase's
        poller does (0.5 when idle); 0 sends them at once. Broadcasts never wait
    :param token_life_s: how long a signed-in user's access token is good
    """

    admin_url: str = field(repr=False)
    authenticator_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    anon_key: str = field(repr=False)
    service_role_key: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    changes_interval_s: float = 0.0
    token_life_s: int = 3600

    def __post_init__(self) -> None:
        if not ip_address(self.host).is_loopback:
            raise LocalError(f"the gateway listens on loopback only, not on {self.host}")


@asynccontextmanager
async def serving(config: GatewayConfig) -> AsyncIterator[str]:
    """Serve until the block ends; yield the base URL, for example ``http://127.0.0.1:54321``.

    :raises LocalError: the database cannot be reached
    :raises OSError: the port is taken
    """
    async with (
        Rest.running(config.authenticator_url, config.jwt_secret) as rest,
        Realtime.running(
            config.admin_url, config.jwt_secret, changes_interval_s=config.changes_interval_s
        ) as realtime,
    ):
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.on_response_prepare.append(_allow_browsers)
        application.router.add_get("/", _about)
        application.router.add_get("/health", _about)
        application.router.add_get(_DASHBOARD.rstrip("/"), _to_dashboard)
        application.router.add_get(_DASHBOARD + "{tail:.*}", _dashboard(config))
        application.router.add_get("/realtime/v1/websocket", realtime.handle)
        application.router.add_route("*", PREFIX + "{tail:.*}", _keyed(config, rest.handle))
        people = auth.Auth(config.admin_url, config.jwt_secret, token_life_s=config.token_life_s)
        application.router.add_route("*", auth.PREFIX + "{tail:.*}", _keyed(config, people.handle))
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, config.host, config.port).start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            realtime.hang_up()
            with anyio.move_on_after(2 * _SHUTDOWN_S, shield=True):
                await runner.cleanup()


def _keyed(config: GatewayConfig, handle: _Handler) -> _Handler:
    """Let only requests with a key of the project through to *handle*."""

    async def handle_keyed(request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=200)
        key = request.headers.get("apikey") or request.query.get("apikey")
        if key not in (config.anon_key, config.service_role_key):
            message, hint = _WRONG_KEY if key else _NO_KEY
            return web.json_response({"message": message, "hint": hint}, status=401)
        if "Authorization" not in request.headers:
            headers = request.headers.copy()
            headers["Authorization"] = f"Bearer {key}"
            request = request.clone(headers=headers)
        return await handle(request)

    return handle_keyed


async def _about(_: web.Request) -> web.Response:
    return web.Response(text=_ABOUT)


async def _to_dashboard(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(_DASHBOARD)


def _dashboard(config: GatewayConfig) -> _Handler:
    target = files.Target("", config.anon_key)

    async def handle(request: web.Request) -> web.StreamResponse:
        found = await anyio.to_thread.run_sync(files.answer, request.match_info["tail"], target)
        return web.Response(status=found.status, headers=found.headers, body=found.body)

    return handle


async def _allow_browsers(request: web.Request, response: web.StreamResponse) -> None:
    headers = response.headers
    if request.path.startswith(_DASHBOARD):
        return  # pages of other origins have no business with it
    headers["Access-Control-Allow-Origin"] = "*"
    headers["Access-Control-Expose-Headers"] = (
        f"Content-Range, Content-Location, Location, {auth.VERSION_HEADER}"
    )
    if request.method == "OPTIONS":
        asked = request.headers.get("Access-Control-Request-Headers", "*")
        headers["Access-Control-Allow-Methods"] = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS"
        headers["Access-Control-Allow-Headers"] = asked
        headers["Access-Control-Max-Age"] = "3600"
    if not getattr(response, "body", True):
        headers.popall("Content-Type", None)
