"""``grape`` as its users run it, each with a configuration folder and a user of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import orjson

from tendril_rt.cli.grape import main
from tendril_rt.control.owner import Owner, Registration, owner
from tendril_rt.model import ClusterId
from tests.conftest import RunningPlane

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

GRAPE = (sys.executable, "-m", "tendril_rt.cli.grape")
_PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str
    both: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


class _Tee(io.BytesIO):
    """Keeps what is written, and adds it to *both* in the order in which a terminal shows it."""

    def __init__(self, both: bytearray) -> None:
        super().__init__()
        self._both = both

    def write(self, data: "ReadableBuffer", /) -> int:
        self._both += data
        return super().write(data)


@dataclass(frozen=True)
class Grape:
    """A user of the control plane, and the folder where their grape keeps its session.

    :ivar cwd: where commands run; None: where we are
    """

    plane: RunningPlane
    home: Path
    email: str
    password: str
    cwd: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GRAPE_")}
        return {**clean, "XDG_CONFIG_HOME": str(self.home)}

    @property
    def session_file(self) -> Path:
        return self.home / "grape" / "session.json"

    def __call__(self, *arguments: str, stdin: str = "", **extra: str) -> Ran:
        """Run a command in this process; *extra* goes into its environment."""
        both = bytearray()
        raw_out, raw_err = _Tee(both), _Tee(both)
        out, err = (io.TextIOWrapper(raw, encoding="utf-8") for raw in (raw_out, raw_err))
        with (
            _environment({**self.environment, **extra}),
            _stdin(stdin),
            contextlib.chdir(self.cwd or Path.cwd()),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main(arguments)
        out.flush()
        err.flush()
        texts = (bytes(seen).decode() for seen in (raw_out.getvalue(), raw_err.getvalue(), both))
        return Ran(code, *texts)

    def start(self, *arguments: str, **extra: str) -> "subprocess.Popen[bytes]":
        """Run a command as a process of its own."""
        return subprocess.Popen(
            [*GRAPE, *arguments],
            env={**self.environment, **extra},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def sign_in(self) -> "Grape":
        """Sign in; return itself."""
        signed_in = self(
            *("login", self.email, "--url", self.plane.url, "--key", self.plane.anon_key),
            "--password-stdin",
            stdin=f"{self.password}\n",
        )
        assert signed_in.code == 0, signed_in.err
        return self

    def add_cluster(self, name: str = "laptop") -> Registration:
        """Register a cluster."""
        added = self("clusters", "add", name, "--json")
        assert added.code == 0, added.err
        made = orjson.loads(added.out)
        return Registration(ClusterId(made["cluster_id"]), made["token"])

    def expire(self) -> None:
        """Make the kept session one that must be renewed before it is used."""
        kept = orjson.loads(self.session_file.read_bytes())
        self.session_file.write_bytes(orjson.dumps({**kept, "renew_at": 0.0}))

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[Owner]:
        """Open a session of the same user beside grape's."""
        kept = orjson.loads(self.session_file.read_bytes())
        async with owner(self.plane.url, self.plane.anon_key, kept["access_token"]) as user:
            yield user


def new_grape(plane: RunningPlane, home: Path) -> Grape:
    """Return the grape of a user who has nothing yet, and is not signed in."""
    email = f"{uuid.uuid4().hex[:12]}@example.com"
    made = httpx.post(
        f"{plane.url}/auth/v1/admin/users",
        headers={"apikey": plane.service_role_key},
        json={"email": email, "password": _PASSWORD},
    )
    assert made.status_code == 200, made.text
    return Grape(plane, home, email, _PASSWORD)


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _stdin(text: str) -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before
