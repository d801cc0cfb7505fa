"""The health port and the watchdog: what must work while the event loop does not.

Two daemon threads, each owned by a context manager and gone when its block ends: that of
:func:`watched` looks at the loop's ticks and, once per episode, logs where a stuck loop stands;
that of :func:`serving` answers ``/livez``, ``/readyz`` and ``/metrics``. Neither kills anything:
that is for whoever reads ``/livez``. The server takes GET and HEAD alone, has few connections at
once, and gives each a few seconds.
"""

import contextvars
import json
import logging
import selectors
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

import anyio

from tendril_rt.agent.vitals import TICK_S, Verdict, Vitals
from tendril_rt.errors import ConfigError

_CONNECTIONS = 8
_CONNECTION_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 2.0
_LOOK_INTERVAL_S = 5.0
#: Long before STUCK_AFTER_S, when /livez gives up: the stack is in the log before the kill.
COMPLAIN_AFTER_S = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the port."""

    status: int
    content_type: str
    body: bytes


Pages = Mapping[str, Callable[[], Answer]]


def verdict_page(judge: Callable[[], Verdict]) -> Callable[[], Answer]:
    """Return a page that says 200 or 503, and why, as JSON."""

    def page() -> Answer:
        verdict = judge()
        fields = {"ok": verdict.ok, "why": verdict.why, **verdict.figures}
        body = json.dumps(fields, ensure_ascii=False).encode() + b"\n"
        return Answer(200 if verdict.ok else 503, "application/json; charset=utf-8", body)

    return page


@asynccontextmanager
async def watched(
    vitals: Vitals, *, complain_after_s: float = COMPLAIN_AFTER_S
) -> AsyncIterator[None]:
    """Tick from this event loop until the block ends, with a watchdog thread beside it.

    :param complain_after_s: seconds without a tick before the loop's stack is logged
    """
    with _watchdog(vitals, threading.get_ident(), complain_after_s):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_tick, vitals)
            yield
            tasks.cancel_scope.cancel()


async def _tick(vitals: Vitals) -> None:
    while True:
        vitals.tick()
        await anyio.sleep(TICK_S)


@contextmanager
def serving(host: str, port: int, pages: Pages) -> Iterator[int]:
    """Serve *pages* (path to answer) from threads until the block ends; yield the port.

    :param port: 0 takes a free one
    :raises ConfigError: the address cannot be listened on
    """
    try:
        server = _Server(host, port, pages)
    except OSError as exc:
        raise ConfigError(
            f"TENDRIL_HEALTH_PORT: cannot listen on {host} port {port} ({exc.strerror or exc}): "
            "is another agent on this host using it?"
        ) from exc
    with ExitStack() as stack:
        stack.callback(server.server_close)
        stack.enter_context(_thread("health", server.serve, server.stop))
        yield server.server_address[1]


@contextmanager
def _watchdog(vitals: Vitals, loop_thread: int, complain_after_s: float) -> Iterator[None]:
    over = threading.Event()

    def watch() -> None:
        is_stuck = False
        while not over.wait(min(_LOOK_INTERVAL_S, complain_after_s)):
            age_s = vitals.loop_age_s
            if age_s < complain_after_s:
                if is_stuck:
                    _log.warning("the event loop turns again")
                is_stuck = False
            elif not is_stuck:
                is_stuck = True
                _log.error(
                    "the event loop has been stuck for %.0f s; it stands at\n%s",
                    age_s,
                    _stack_of(loop_thread),
                )

    with _thread("watchdog", watch, over.set):
        yield


def _stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)).rstrip() if frame else "no such thread"


@contextmanager
def _thread(name: str, run: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    """Run a daemon thread until the block ends, then give it a moment to end.

    It logs with the fields of whoever started it.
    """
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name=f"tendril-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(_STOP_TIMEOUT_S)
        if thread.is_alive():
            _log.error("the thread %s did not end within %g s", thread.name, _STOP_TIMEOUT_S)


class _Server(ThreadingMixIn, TCPServer):
    # Not HTTPServer, which asks DNS for this machine's name before it listens.
    allow_reuse_address = True
    daemon_threads = True
    timeout = 0  # of handle_request: somebody is there already
    block_on_close = False  # a slow reader must not hold up the agent's end
    request_queue_size = 32

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.pages = pages
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._over, self._stop = socket.socketpair()
        super().__init__((host, port), _Handler)

    def serve(self) -> None:
        """Serve until :meth:`stop`. Not ``serve_forever``, which looks up twice a second."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.register(self._over, selectors.EVENT_READ)
            while self._over not in {key.fileobj for key, _ in selector.select()}:
                self.handle_request()

    def stop(self) -> None:
        """Make :meth:`serve` return; any thread may call it."""
        self._stop.send(b".")

    def server_close(self) -> None:
        self._over.close()
        self._stop.close()
        super().server_close()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        if not isinstance(sys.exception(), OSError):  # the asker went away
            _log.exception("the health port could not answer")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CONNECTION_TIMEOUT_S
    server_version = "tendril"
    sys_version = ""

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            paths = ", ".join(self.server.pages)
            answer = Answer(404, "text/plain; charset=utf-8", f"there is {paths}\n".encode())
        else:
            answer = page()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing: a probe every few seconds is no news."""
