"""The dashboard on a port of its own, for a control plane that is elsewhere.

Standard library only, so that the command line needs no more packages for it. Listens on loopback
alone: whoever wants the pages elsewhere puts them on a static host (``files.export``).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread

from tendril_rt.errors import LocalError
from tendril_rt.local.dashboard.files import Target, answer

_IDLE_S = 30.0
_POLL_S = 0.1
_END_S = 5.0


@asynccontextmanager
async def serving(target: Target, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the dashboard until the block ends; yield its URL.

    Cancellation: safe; requests that are being answered end on their own.

    :param target: the control plane; its URL must not be empty
    :param port: 0 picks a free one
    :raises LocalError: not an address of loopback, the port is taken, or *target* has no URL
    """
    if not ip_address(host).is_loopback:
        raise LocalError(f"the dashboard is served on loopback only, not on {host}")
    if not target.url:
        raise LocalError("a dashboard on a port of its own needs the URL of its control plane")
    try:
        server = ThreadingHTTPServer((host, port), _handler(target))
    except OSError as exc:
        raise LocalError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
    server.daemon_threads = True
    with server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, server.serve_forever, _POLL_S)
            try:
                yield f"http://{host}:{server.server_address[1]}/"
            finally:
                with anyio.move_on_after(_END_S, shield=True):
                    await anyio.to_thread.run_sync(server.shutdown)


def _handler(target: Target) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _IDLE_S
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a request is nobody's business."""

        def _answer(self, *, has_body: bool) -> None:
            found = answer(unquote(urlsplit(self.path).path), target)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            if has_body:
                self.wfile.write(found.body)

    return Handler
