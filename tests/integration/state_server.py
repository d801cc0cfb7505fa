"""A remote place for state: what Terraform's ``http`` backend speaks, with faults on demand."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import orjson


@dataclass
class StateServer:
    """One state with its lock.

    :ivar refuse_writes: how many more writes are answered 500
    :ivar open_for_writes: while it is not set, writes wait
    :ivar writes: how many were taken
    :ivar lock: what its holder said of itself, None while nobody holds it
    """

    url: str = ""
    state: bytes | None = None
    lock: bytes | None = None
    refuse_writes: int = 0
    writes: int = 0
    refused: list[bytes] = field(default_factory=list)
    open_for_writes: Event = field(default_factory=Event)

    @property
    def lock_id(self) -> str:
        assert self.lock is not None
        return str(orjson.loads(self.lock)["ID"])

    @property
    def resources(self) -> list[str]:
        """The names of the resources in the stored state."""
        return [
            item["name"] for item in orjson.loads(self.state or b'{"resources":[]}')["resources"]
        ]

    def backend(self) -> str:
        """Return the block of a template that keeps its state here."""
        return f"""
terraform {{
  backend "http" {{
    address        = "{self.url}"
    lock_address   = "{self.url}"
    unlock_address = "{self.url}"
    retry_max      = 0
  }}
}}
"""

    def answer(self, method: str, body: bytes) -> tuple[int, bytes]:
        if method == "GET":
            return (200, self.state) if self.state else (404, b"")
        if method == "POST":
            self.open_for_writes.wait()
            if self.refuse_writes:
                self.refuse_writes -= 1
                self.refused.append(body)
                return 500, b"out of order"
            self.state, self.writes = body, self.writes + 1
        if method == "LOCK":
            if self.lock is not None:
                return 423, self.lock
            self.lock = body
        if method == "UNLOCK":
            self.lock = None
        return 200, b""


@contextmanager
def state_server() -> Iterator[StateServer]:
    """Serve on a free port of this machine until the block ends."""
    store = StateServer()
    store.open_for_writes.set()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, said = store.answer(self.command, body)
            self.send_response(code)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # nobody waited for it
                self.wfile.write(said)

        do_GET = do_POST = do_LOCK = do_UNLOCK = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.url = f"http://127.0.0.1:{server.server_port}/state"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        store.open_for_writes.set()
        server.shutdown()
        thread.join()
        server.server_close()
