"""What each path of the dashboard answers, wherever it is served. Pure but for reading the package.

Owns the security headers. The pages load nothing from elsewhere, run no inline script or style, and
may speak to their own origin and to the control plane, to nobody else. Must never answer a file
outside ``static/``, whatever the path is.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from tendril_rt.errors import LocalError

STATIC = Path(__file__).resolve().parent / "static"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CONNECT = re.compile(rb"connect-src [^;]*;")


@dataclass(frozen=True)
class Target:
    """The control plane that the pages speak to.

    :param url: of the project, without a path; empty for the origin that serves the pages
    :param anon_key: its public key
    """

    url: str
    anon_key: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if self.url and not (parts.scheme in ("http", "https") and parts.netloc):
            raise LocalError(f"{self.url!r} is not the URL of a control plane: https://…")

    @property
    def sources(self) -> str:
        """The directive of the security policy that says whom the pages may speak to."""
        if not self.url:
            return "connect-src 'self';"
        scheme, host, *_ = urlsplit(self.url)
        socket = "wss" if scheme == "https" else "ws"
        return f"connect-src 'self' {scheme}://{host} {socket}://{host};"

    @property
    def config(self) -> bytes:
        """Return ``config.json``."""
        return orjson.dumps({"url": self.url, "anon_key": self.anon_key})


@dataclass(frozen=True)
class Answer:
    """One answer, complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def answer(path: str, target: Target) -> Answer:
    """Return what *path* answers, which is relative to where the dashboard is mounted."""
    name = path.strip("/") or "index.html"
    if name == "config.json":
        return _answer(200, ".json", target.config, target)
    files = _files()
    if name not in files:
        return _answer(404, ".html", b"<!doctype html><title>Not found</title>Not found", target)
    content = files[name].read_bytes()
    if name == "index.html":
        content = _index(content, target)
    return _answer(200, files[name].suffix, content, target)


def export(folder: Path, target: Target) -> None:
    """Write the dashboard for any static host into *folder*, which may exist.

    :raises LocalError: *target* names no URL, or the folder cannot be written
    """
    if not target.url:
        raise LocalError("a static host needs the URL of the control plane")
    try:
        for name, path in _files().items():
            to = folder / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
        index = folder / "index.html"
        index.write_bytes(_index(index.read_bytes(), target))
        (folder / "config.json").write_bytes(target.config)
    except OSError as exc:
        raise LocalError(f"cannot write {exc.filename}: {exc.strerror or exc}") from exc


def _index(content: bytes, target: Target) -> bytes:
    return _CONNECT.sub(target.sources.encode(), content, count=1)


@cache
def _files() -> Mapping[str, Path]:
    """Return all there is, by name: a path of a request is only ever looked up in it."""
    return {
        path.relative_to(STATIC).as_posix(): path
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _TYPES
    }


def _answer(status: int, suffix: str, body: bytes, target: Target) -> Answer:
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"{target.sources} base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Type": _TYPES[suffix],
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
    }
    return Answer(status, headers, body)
