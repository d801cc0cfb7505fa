"""The private directory of one attempt, made new and removed at its end.

``<base>/<provision id>/`` with mode 0700, ``templates/`` inside. The path is the same for every
attempt of a provision, since a saved plan locks in absolute paths; a lock file beside it keeps two
agents on one host apart. Nothing that must outlive the attempt may live here: no state, no spool.
An agent that is killed leaves its workspaces behind, and the kernel gives their locks back: what
:func:`leftovers` finds belongs to nobody.
"""

import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from tendril_rt.errors import WorkspaceError
from tendril_rt.model import ProvisionId
from tendril_rt.runner import flock
from tendril_rt.runner.attended import end_leftover
from tendril_rt.runner.steps import STOP_POLICIES

_REMOVE_S = 60.0
_OWNER_BYTES = 100

_log = logging.getLogger(__name__)
_PROVISION_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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
    base: Path,
    provision_id: ProvisionId,
    *,
    owner: str = "",
    keep: bool = False,
    wait_s: float = 0.0,
) -> AsyncIterator[Workspace]:
    """Make the directory of *provision_id* and remove it when the block ends.

    What an earlier attempt left there is removed first, after what still runs there was stopped by
    the policy of its step.

    :param owner: the agent; noted in the lock file for whoever finds it left over
    :param keep: go on with what is there instead
    :param wait_s: for somebody else to let it go, in seconds
    :raises WorkspaceError: another agent on this host still works in it, or the disk refuses
    """
    lock = await _open(base, provision_id, wait_s)
    os.ftruncate(lock, 0)
    os.pwrite(lock, owner.encode(), 0)
    space = _space(base, provision_id)
    try:
        if not keep and not await anyio.to_thread.run_sync(_is_made, space.root):
            await end_processes(space)
            await anyio.to_thread.run_sync(_renew, space.root)
        yield space
    finally:
        with anyio.move_on_after(_REMOVE_S, shield=True):
            await anyio.to_thread.run_sync(_remove, base, provision_id, lock)


async def end_processes(space: Workspace) -> None:
    """Stop what still runs in *space*, by the policy of its step: it may have outlived its agent.

    Never two Terraforms for one provision.
    """
    for run_dir in await anyio.to_thread.run_sync(_folders, space.run_root):
        step = run_dir.name.partition("-")[0]
        await end_leftover(run_dir, STOP_POLICIES.get(step, STOP_POLICIES["apply"]))


@dataclass(frozen=True, slots=True)
class Leftover:
    """A workspace whose agent is gone. Whoever has this holds its lock.

    Ends in exactly one of :func:`remove` and :func:`release`.

    :ivar owner: the agent that made it, as far as is known
    """

    provision_id: ProvisionId
    owner: str
    workspace: Workspace
    lock: int


def leftovers(base: Path, spared: Collection[ProvisionId] = ()) -> list[Leftover]:
    """Return the workspaces below *base* that no living agent holds, locked; blocks.

    Other files and folders there are never touched: *base* may be a folder that others use, too.

    :param spared: those that somebody is about to take up
    """
    found: list[Leftover] = []
    for path in sorted(base.glob("*.lock")):
        if not _PROVISION_ID.fullmatch(path.stem) or path.stem in spared:
            continue
        with suppress(BlockingIOError):
            provision_id = ProvisionId(path.stem)
            lock = flock.take(path)
            space = _space(base, provision_id)
            if space.root.is_dir() and not space.root.is_symlink():
                owner = os.pread(lock, _OWNER_BYTES, 0).decode(errors="replace")
                found.append(Leftover(provision_id, owner, space, lock))
            else:
                _remove(base, provision_id, lock)
    return found


def remove(leftover: Leftover) -> None:
    """Remove *leftover* and give its lock back; blocks."""
    _remove(leftover.workspace.root.parent, leftover.provision_id, leftover.lock)


def release(leftover: Leftover) -> None:
    """Leave *leftover* as it is, for another time."""
    os.close(leftover.lock)


def _space(base: Path, provision_id: ProvisionId) -> Workspace:
    root = base / provision_id
    return Workspace(root, root / "templates", root / "run")


def _folders(parent: Path) -> list[Path]:
    return sorted(parent.glob("*"))


async def _open(base: Path, provision_id: ProvisionId, wait_s: float) -> int:
    """Return the lock of the directory, which may be there or not."""
    try:
        await anyio.to_thread.run_sync(_check, base)
        with anyio.move_on_after(wait_s):
            return await flock.wait_for(_lock_file(base, provision_id))
        return flock.take(_lock_file(base, provision_id))
    except BlockingIOError as exc:
        raise WorkspaceError(
            f"{base / provision_id} is in use by another agent on this host: give each agent its "
            "own TENDRIL_WORKSPACE_DIR"
        ) from exc
    except OSError as exc:
        raise _refused(base / provision_id, exc) from exc


def _check(base: Path) -> None:
    """Make the parent of all; refuse one that others could have prepared."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    owners = {base.stat().st_uid, base.lstat().st_uid}  # of a link, too: it can be turned
    if not owners <= {0, os.geteuid()}:
        raise WorkspaceError(
            f"{base} belongs to another user, who could change what runs there: name another "
            "folder in TENDRIL_WORKSPACE_DIR"
        )


def _is_made(root: Path) -> bool:
    """Make *root*; False if something stands there."""
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except OSError as exc:
        raise _refused(root, exc) from exc
    return True


def _renew(root: Path) -> None:
    try:
        if root.exists():
            _remove_tree(root)
        root.mkdir(mode=0o700)
    except OSError as exc:
        raise _refused(root, exc) from exc


def _refused(root: Path, exc: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"cannot make the workspace {root}: {exc.strerror or exc}. Check the permissions and "
        "the free space of TENDRIL_WORKSPACE_DIR"
    )


def _remove(base: Path, provision_id: ProvisionId, lock: int) -> None:
    """Remove it; what the disk keeps is said, and tried again at the agent's next start."""
    try:
        _remove_tree(base / provision_id)
        _lock_file(base, provision_id).unlink(missing_ok=True)
    except OSError as exc:
        _log.error("cannot remove the workspace %s: %s", base / provision_id, exc)
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
