"""What ``tendril dev`` and ``tendril demo`` share: the embedded plane in a folder."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tendril_rt.errors import LocalError

try:
    from tendril_rt.local import plane
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
    port: int = 0,
    *,
    changes_interval_s: float = 0.0,
    token_life_s: int = 3600,
    user_emails: Sequence[str] = (),
) -> AsyncIterator[Plane]:
    """Run the embedded plane; Postgres comes from ``TENDRIL_LOCAL_PG_BIN`` where that is set."""
    bin_dir = os.environ.get("TENDRIL_LOCAL_PG_BIN")
    async with plane.running(
        folder,
        port=port,
        bin_dir=Path(bin_dir) if bin_dir else None,
        changes_interval_s=changes_interval_s,
        token_life_s=token_life_s,
        user_emails=user_emails,
    ) as up:
        yield up
