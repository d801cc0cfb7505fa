"""The private directory of one attempt, made new and removed at its end.

``<base>/<provision id>/`` with mode 0700, ``templates/`` inside. The path is the same for every
attempt of a provision, since a saved plan locks in absolute paths; a lock file beside it keeps two
agents on one host apart. Nothing that must outlive the attempt may live here: no state, no spool.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from tendril_rt.errors import WorkspaceError
from tendril_rt.model import ProvisionId
from tendril_rt.runner import locks

_REMOVE_S = 60.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """An open workspace.

    :ivar root: the private directory
    :ivar templates: where the template's repository is checked out
    """

    root: Path
    templates: Path


@asynccontextmanager
async def workspace(base: Path, provision_id: ProvisionId) -> AsyncIterator[Workspace]:
    """Make the directory of *provision_id* and remove it when the block ends.

    What an earlier attempt left there is removed first.

    :raises WorkspaceError: another agent on this host still works in it, or the disk refuses
    """
    lock = await anyio.to_thread.run_sync(_prepare, base, provision_id)
    root = base / provision_id
    try:
        yield Workspace(root, root / "templates")
    finally:
        with anyio.move_on_after(_REMOVE_S, shield=True):
            await anyio.to_thread.run_sync(_remove, base, provision_id, lock)


def _prepare(base: Path, provision_id: ProvisionId) -> int:
    root = base / provision_id
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid not in (0, os.geteuid()):
            raise WorkspaceError(
                f"{base} belongs to another user, who could change what runs there: name another "
                "folder in TENDRIL_WORKSPACE_DIR"
            )
        lock = locks.take(_lock_file(base, provision_id))
        try:
            if root.exists():
                shutil.rmtree(root)
            root.mkdir(mode=0o700)
        except BaseException:
            os.close(lock)
            raise
    except BlockingIOError as exc:
        raise WorkspaceError(
            f"{root} is in use by another agent on this host: give each agent its own "
            "TENDRIL_WORKSPACE_DIR"
        ) from exc
    except OSError as exc:
        raise WorkspaceError(
            f"cannot make the workspace {root}: {exc.strerror or exc}. Check the permissions and "
            "the free space of TENDRIL_WORKSPACE_DIR"
        ) from exc
    return lock


def _remove(base: Path, provision_id: ProvisionId, lock: int) -> None:
    try:
        shutil.rmtree(base / provision_id, ignore_errors=True)
        _lock_file(base, provision_id).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _lock_file(base: Path, provision_id: ProvisionId) -> Path:
    return base / f"{provision_id}.lock"
