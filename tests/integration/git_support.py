"""What the tests of templates share: repositories, an HTTPS server of them, and checkouts."""

import base64
import dataclasses
import os
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tendril_rt.errors import GitError
from tendril_rt.model import TemplateSource
from tendril_rt.runner.credentials import Credentials
from tendril_rt.runner.git import Checkout, Git
from tendril_rt.runner.mirror import Mirrors

MAIN_TF = 'output "version" { value = "%s" }\n'
ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


@dataclass(frozen=True)
class Repository:
    """A repository on disk that a test fills."""

    path: Path
    env: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=self.env, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def make_tree(self, entries: str) -> str:
        """Write a tree as it is given, without git's own checks; return its id."""
        done = subprocess.run(
            ["git", "mktree"],
            cwd=self.path,
            env=self.env,
            input=entries.encode(),
            check=True,
            capture_output=True,
        )
        return done.stdout.decode().strip()

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self) -> str:
        """Commit everything; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=a commit")
        return self.git("rev-parse", "HEAD")


@dataclass(frozen=True)
class Fetcher:
    """Checks out into a fresh folder each time, with a home directory of the test's own."""

    folder: Path
    env: Mapping[str, str]
    credentials: Credentials = field(default_factory=Credentials)
    max_bytes: int = 10_000_000
    cache_max_bytes: int = 10_000_000

    name: str = "templates"

    @property
    def target(self) -> Path:
        return self.folder / self.name

    @property
    def mirrors(self) -> Path:
        return self.folder / "mirrors"

    def into(self, name: str) -> "Fetcher":
        """Return one that checks out into another folder."""
        return dataclasses.replace(self, name=name)

    async def __call__(
        self,
        repo: str,
        version: str,
        path: str = "",
        *,
        allow_file: bool = True,
        timeout_s: float = 20.0,
    ) -> Checkout:
        git = Git(
            self.env,
            Mirrors(self.mirrors, self.cache_max_bytes),
            self.credentials,
            timeout_s=timeout_s,
            max_bytes=self.max_bytes,
            allow_file=allow_file,
            first_pause_s=0.02,
        )
        return await git.checkout(TemplateSource(repo, version, path), self.target)

    async def refusal(
        self,
        repo: str,
        version: str,
        path: str = "",
        *,
        allow_file: bool = True,
        timeout_s: float = 20.0,
    ) -> str:
        """Return the message of the GitError that this must end in."""
        with pytest.raises(GitError) as caught:
            await self(repo, version, path, allow_file=allow_file, timeout_s=timeout_s)
        return str(caught.value)


def version_in(checkout: Checkout) -> str:
    """Return the text that :data:`MAIN_TF` was filled with."""
    match = re.search('value = "(.*)"', (checkout.root_module / "main.tf").read_text())
    assert match
    return match[1]


@dataclass
class Host:
    """An HTTPS host that serves repositories as ``git http-backend`` does.

    :ivar login: ``user:password`` that it wants, or None
    :ivar faults: how the next requests fail: a status (0 for not at all), "drop" for no answer,
        "half" for one that breaks off, or an address to redirect to
    :ivar authorizations: what each request carried, decoded, or None
    :ivar command_lines: all of the machine's, as they were during requests
    """

    repositories: Path
    certificate: Path
    login: str | None = None
    faults: list[int | str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    command_lines: set[str] = field(default_factory=set)
    name: str = ""

    @property
    def url(self) -> str:
        return f"https://{self.name}"

    def saw(self, secret: str) -> bool:
        """Tell whether *secret* was sent here."""
        return any(secret in (sent or "") for sent in self.authorizations)


class _Handler(BaseHTTPRequestHandler):
    host: ClassVar[Host]

    def do_GET(self) -> None:
        host = self.host
        host.paths.append(self.path)
        sent = self.headers["Authorization"]
        login = base64.b64decode(sent.removeprefix("Basic ")).decode() if sent else None
        host.authorizations.append(login)
        self._look_around()
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        fault = host.faults.pop(0) if host.faults else None
        if fault == "drop":
            self.close_connection = True
        elif fault == "half":
            self._serve(body, breaking_off=True)
        elif isinstance(fault, str):
            self._answer(302, [("Location", fault + self.path)])
        elif fault not in (None, 0, 401):
            self._answer(fault, [])
        elif fault == 401 or (host.login is not None and login != host.login):
            self._answer(401, [("WWW-Authenticate", 'Basic realm="templates"')])
        else:
            self._serve(body)

    do_POST = do_GET

    def _serve(self, body: bytes, *, breaking_off: bool = False) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.host.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers["Content-Type"] or "",
            "HTTP_CONTENT_ENCODING": self.headers["Content-Encoding"] or "",
            "GIT_PROTOCOL": self.headers["Git-Protocol"] or "",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=env, check=False, capture_output=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        plain = [header for header in headers if header[0] != "Status"]
        if breaking_off:
            plain.append(("Content-Length", str(len(content))))
            content = content[: len(content) // 2]
        self._answer(int(status[:3]), plain, content)

    def _answer(self, status: int, headers: list[tuple[str, ...]], content: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _look_around(self) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                line = file.read_text(errors="replace").replace("\0", " ")
                self.host.command_lines.add(line)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def serving(host: Host, certificate: Path, key: Path, *, as_name: str) -> Iterator[Host]:
    """Serve *host* on a free port; its name is *as_name* with the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with _running(host, context) as port:
        host.name = f"{as_name}:{port}"
        yield host


@contextmanager
def serving_plainly(host: Host) -> Iterator[int]:
    """Serve *host* without TLS, for whatever puts TLS in front of it; yield the port."""
    with _running(host, None) as port:
        yield port


@contextmanager
def _running(host: Host, context: ssl.SSLContext | None) -> Iterator[int]:
    handler = type("Handler", (_Handler,), {"host": host})
    with _Server(("127.0.0.1", 0), handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
