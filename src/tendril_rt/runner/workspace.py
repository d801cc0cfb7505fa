"""The private directory of one attempt, made new and removed at its end.

``<base>/<provision id>/`` with mode 0700, ``templates/`` inside. The path is the same for every
attempt of a provision, since a saved plan locks in absolute paths; a lock file beside it keeps two
agents on one host apart. Nothing that must outlive the attempt may live here: no state, no spool.
An agent that is killed leaves its workspaces behind, and the kernel gives their locks back: what
:func:`leftovers` finds belongs to nobody.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from tendril_rt.errors import WorkspaceError
from tendril_rt.model import ProvisionId
from tendril_rt.runner import flock

_REMOVE_S = 60.0
_TEMPLATES = "templates"
_PROVISION_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
        yield Workspace(root, root / _TEMPLATES)
    finally:
        with anyio.move_on_after(_REMOVE_S, shield=True):
            await anyio.to_thread.run_sync(_remove, base, provision_id, lock)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A workspace whose agent is gone. Whoever has this holds its lock.

    Ends in exactly one of :func:`adopted`, :func:`remove` and :func:`release`.
    """

    provision_id: ProvisionId
    workspace: Workspace
    lock: int


def leftovers(base: Path) -> list[Leftover]:
    """Return the workspaces below *base* that no living agent holds, locked; blocks.

    Other files and folders there are never touched: *base* may be a folder that others use, too.
    """
    found: list[Leftover] = []
    for path in sorted(base.glob("*.lock")):
        if not _PROVISION_ID.fullmatch(path.stem):
            continue
        with suppress(BlockingIOError):
            provision_id = ProvisionId(path.stem)
            lock = flock.take(path)
            root = base / provision_id
            if root.is_dir() and not root.is_symlink():
                found.append(Leftover(provision_id, Workspace(root, root / _TEMPLATES), lock))
            else:
                _remove(base, provision_id, lock)
    return found


@asynccontextmanager
async def adopted(leftover: Leftover) -> AsyncIterator[Workspace]:
    """Take up *leftover* as it is; it is removed when the block ends, as any workspace."""
    try:
        yield leftover.workspace
    finally:
        with anyio.move_on_after(_REMOVE_S, shield=True):
            await anyio.to_thread.run_sync(remove, leftover)


def remove(leftover: Leftover) -> None:
    """Remove *leftover* and give its lock back; blocks."""
    _remove(leftover.workspace.root.parent, leftover.provision_id, leftover.lock)


def release(leftover: Leftover) -> None:
    """Leave *leftover* as it is, for another time."""
    os.close(leftover.lock)


def _prepare(base: Path, provision_id: ProvisionId) -> int:
    root = base / provision_id
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid not in (0, os.geteuid()):
            raise WorkspaceError(
                f"{base} belongs to another user, who could change what runs there: name another "
                "folder in TENDRIL_WORKSPACE_DIR"
            )
        lock = flock.take(_lock_file(base, provision_id))
        try:
            if root.exists():
                _remove_tree(root)
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
        _remove_tree(base / provision_id)
        _lock_file(base, provision_id).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _remove_tree(root: Path) -> None:
    """Remove *root*, with folders in it that a template made read-only."""
    shutil.rmtree(root, ignore_errors=True)
    if root.is_dir() and not root.is_symlink():
        root.chmod(0o700)
        for parent, folders, _ in os.walk(root):  # a folder is opened before it is entered
            for path in (Path(parent, name) for name in folders):
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(root)


def _lock_file(base: Path, provision_id: ProvisionId) -> Path:
    return base / f"{provision_id}.lock"
