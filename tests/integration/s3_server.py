"""A bucket, as far as Terraform's ``s3`` backend with a lock file needs one; signs nothing."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

_EMPTY_LIST = b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>'


@dataclass
class Bucket:
    """Objects by name."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def backend(self) -> str:
        """Return the block of a template that keeps its state and its lock here."""
        return f"""
terraform {{
  backend "s3" {{
    bucket                      = "bucket"
    key                         = "terraform.tfstate"
    region                      = "us-east-1"
    access_key                  = "key"
    secret_key                  = "secret"
    endpoints                   = {{ s3 = "{self.url}" }}
    use_path_style              = true
    use_lockfile                = true
    skip_credentials_validation = true
    skip_requesting_account_id  = true
    skip_metadata_api_check     = true
    skip_region_validation      = true
    skip_s3_checksum            = true
  }}
}}
"""

    def answer(
        self, method: str, name: str, body: bytes, only_if_absent: bool
    ) -> tuple[int, bytes]:
        with self.lock:
            if method == "PUT":
                if only_if_absent and name in self.objects:
                    return 412, b"<Error><Code>PreconditionFailed</Code></Error>"
                self.objects[name] = body
                return 200, b""
            if method == "DELETE":
                self.objects.pop(name, None)
                return 204, b""
            if name in self.objects:
                return 200, self.objects[name]
            return 404, b"<Error><Code>NoSuchKey</Code></Error>"


@contextmanager
def s3_server() -> Iterator[Bucket]:
    """Serve on a free port of this machine until the block ends."""
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "aws-chunked" in self.headers.get("Content-Encoding", ""):
                body = _dechunked(body)
            parts = urlsplit(self.path)
            name = parts.path.removeprefix("/bucket").lstrip("/")
            if not name or "list-type" in parse_qs(parts.query):
                code, said = 200, _EMPTY_LIST
            else:
                absent = self.headers.get("If-None-Match") == "*"
                code, said = bucket.answer(self.command, name, body, absent)
            self.send_response(code)
            self.send_header("ETag", f'"{hashlib.md5(said, usedforsecurity=False).hexdigest()}"')
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_GET = do_HEAD = do_PUT = do_DELETE = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _dechunked(body: bytes) -> bytes:
    """Undo ``aws-chunked``: sizes in hex, each with its chunk; trailers are left out."""
    whole = b""
    while body:
        head, _, body = body.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if size == 0:
            break
        whole, body = whole + body[:size], body[size + 2 :]
    return whole
