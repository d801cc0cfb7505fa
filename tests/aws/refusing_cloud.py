"""A proxy before moto that refuses what a test names, in the words of AWS.

moto knows no quotas and no missing rights; what it is never asked, it cannot grant.
"""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from .cloud import Cloud

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
_EC2 = (
    "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
    "<RequestID>0b1c</RequestID></Response>"
)
_QUERY = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
    "</Error><RequestId>0b1c</RequestId></ErrorResponse>"
)


@dataclass(frozen=True)
class RefusingCloud(Cloud):
    """The cloud as it is reached through the proxy.

    :ivar refused: error code and message by the action that gets them, such as ``CreateVpc``
    """

    refused: dict[str, tuple[str, str]] = field(default_factory=dict)


@contextmanager
def refusing(cloud: Cloud) -> Iterator[RefusingCloud]:
    """Stand before *cloud* on a free port until the block ends."""
    target = urlsplit(cloud.url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
            if action in proxied.refused:
                code, message = proxied.refused[action]
                form = _QUERY if "/sts/" in self.headers.get("Authorization", "") else _EC2
                answer = form.format(code=code, message=message).encode()
                self._say(403 if "Denied" in code else 400, [("Content-Type", "text/xml")], answer)
                return
            connection = http.client.HTTPConnection(target)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            headers = [(k, v) for k, v in response.getheaders() if k.lower() not in _HOP]
            self._say(response.status, headers, response.read())
            connection.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_any

        def _say(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxied = RefusingCloud(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxied
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
