"""What ``tendril dev`` and ``tendril demo`` share: the embedded plane in a folder."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio.to_thread

from tendril_rt import resources
from tendril_rt.errors import LocalError

try:
    from tendril_rt.local import bundled, database, plane
    from tendril_rt.local.plane import Plane
except ImportError as exc:
    if (exc.name or "").startswith("tendril_rt"):
        raise
    raise LocalError(
        f"the embedded control plane needs more packages ({exc.name} is missing): "
        "pip install 'tendril-rt[local]'"
    ) from exc

__all__ = ["Plane", "folder_for", "running"]


@contextmanager
def folder_for(data: str | None) -> Iterator[Path]:
    """Yield the folder *data*, or one that is thrown away when the block ends."""
    if data is not None:
        if not data:
            raise LocalError("--data names no folder")
        folder = Path(data).expanduser().resolve()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise LocalError(f"--data {folder} cannot be used: {exc.strerror or exc}") from exc
        yield folder
        return
    passing = tempfile.mkdtemp(prefix="tendril-")
    try:
        yield Path(passing)
    finally:
        shutil.rmtree(passing, ignore_errors=True)


@asynccontextmanager
async def running(
    folder: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    changes_interval_s: float = 0.0,
    token_life_s: int = 3600,
    user_emails: Sequence[str] = (),
) -> AsyncIterator[Plane]:
    """Run the embedded plane.

    Its Postgres is the server that ``TENDRIL_LOCAL_DATABASE_URL`` names, a superuser's URL; else
    one of its own, with the programs in ``TENDRIL_LOCAL_PG_BIN`` where that is set.
    """
    database_url = os.environ.get("TENDRIL_LOCAL_DATABASE_URL")
    if database_url:
        server = database.somebody_elses(database_url)
    else:
        server = database.our_own(folder, bin_dir=await anyio.to_thread.run_sync(_postgres))
    async with plane.running(
        folder,
        server,
        host=host,
        port=port,
        changes_interval_s=changes_interval_s,
        token_life_s=token_life_s,
        user_emails=user_emails,
    ) as up:
        yield up


def _postgres() -> Path | None:
    """Return the folder of Postgres's programs; None leaves it to be looked for."""
    named = os.environ.get("TENDRIL_LOCAL_PG_BIN")
    if named:
        return Path(named)
    archive = resources.bundled_postgres()
    return bundled.unpacked(archive, _state_dir()) if archive else None


def _state_dir() -> Path:
    """Return where this user keeps what outlives a run; the XDG base directory specification."""
    named = os.environ.get("TENDRIL_STATE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "tendril"
