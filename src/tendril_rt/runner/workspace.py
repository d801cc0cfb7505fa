"""The private directory of one attempt, made new and removed at its end.

``<base>/<provision id>/`` with mode 0700, ``templates/`` inside. The path is the same for every
attempt of a provision, since a saved plan locks in absolute paths; a lock file beside it keeps two
agents on one host apart. Nothing that must outlive the attempt may live here: no state, no spool.
"""

import fcntl
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
from tendril_rt.runner.attended import end_leftover
from tendril_rt.runner.steps import STOP_POLICIES

_REMOVE_S = 60.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """An open workspace.

    :ivar root: the private directory
    :ivar templates: where the template's repository is checked out
    :ivar run_root: where each launched process has its folder
    """

    root: Path
    templates: Path
    run_root: Path


@asynccontextmanager
async def workspace(
    base: Path, provision_id: ProvisionId, *, keep: bool = False
) -> AsyncIterator[Workspace]:
    """Make the directory of *provision_id* and remove it when the block ends.

    What an earlier attempt left there is removed first, after what still runs there was stopped by
    the policy of its step.

    :param keep: go on with what is there instead
    :raises WorkspaceError: another agent on this host still works in it, or the disk refuses
    """
    lock = await anyio.to_thread.run_sync(_open, base, provision_id)
    root = base / provision_id
    space = Workspace(root, root / "templates", root / "run")
    try:
        if not keep:
            await _end_leftovers(space.run_root)
            await anyio.to_thread.run_sync(_renew, root)
        yield space
    finally:
        with anyio.move_on_after(_REMOVE_S, shield=True):
            await anyio.to_thread.run_sync(_remove, base, provision_id, lock)


async def _end_leftovers(run_root: Path) -> None:
    """Never two Terraforms for one provision: one may have outlived its agent."""
    for run_dir in _folders(run_root):
        step = run_dir.name.partition("-")[0]
        await end_leftover(run_dir, STOP_POLICIES.get(step, STOP_POLICIES["apply"]))


def _folders(parent: Path) -> list[Path]:
    return sorted(parent.glob("*"))


def _open(base: Path, provision_id: ProvisionId) -> int:
    """Return the lock of the directory, which may be there or not."""
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if base.stat().st_uid not in (0, os.geteuid()):
            raise WorkspaceError(
                f"{base} belongs to another user, who could change what runs there: name another "
                "folder in TENDRIL_WORKSPACE_DIR"
            )
        return _locked(_lock_file(base, provision_id))
    except BlockingIOError as exc:
        raise WorkspaceError(
            f"{base / provision_id} is in use by another agent on this host: give each agent its "
            "own TENDRIL_WORKSPACE_DIR"
        ) from exc
    except OSError as exc:
        raise _refused(base / provision_id, exc) from exc


def _renew(root: Path) -> None:
    try:
        if root.exists():
            shutil.rmtree(root)
        root.mkdir(mode=0o700)
    except OSError as exc:
        raise _refused(root, exc) from exc


def _refused(root: Path, exc: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"cannot make the workspace {root}: {exc.strerror or exc}. Check the permissions and "
        "the free space of TENDRIL_WORKSPACE_DIR"
    )


def _locked(path: Path) -> int:
    """Return the lock's descriptor.

    The holder before may have removed the file between our opening and our locking of it: then
    what we locked is no longer what others would find, and we begin again.

    :raises BlockingIOError: another process holds it
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _remove(base: Path, provision_id: ProvisionId, lock: int) -> None:
    try:
        shutil.rmtree(base / provision_id, ignore_errors=True)
        _lock_file(base, provision_id).unlink(missing_ok=True)
    finally:
        os.close(lock)


def _lock_file(base: Path, provision_id: ProvisionId) -> Path:
    return base / f"{provision_id}.lock"
