"""The folders of spools: ``<spool dir>/<provision id>.<attempt>/``, with ``about.json`` in each."""

import shutil
from pathlib import Path

import orjson

from tendril_rt.errors import SpoolError
from tendril_rt.model import AgentId, Lease, ProvisionId

_ABOUT = "about.json"


def folder_of(spool_dir: Path, lease: Lease) -> Path:
    """Return where the spool of *lease* belongs."""
    return spool_dir / f"{lease.provision_id}.{lease.attempt}"


def all_in(spool_dir: Path) -> list[Path]:
    """Return the folders of all spools, the oldest first."""
    abouts = list(spool_dir.glob(f"*/{_ABOUT}"))
    return [about.parent for about in sorted(abouts, key=lambda about: about.stat().st_mtime_ns)]


def make(folder: Path, lease: Lease) -> None:
    """Make the folder (0700) anew, and say whose it is.

    :raises OSError: the disk refuses
    """
    discard(folder)
    folder.mkdir(mode=0o700)
    about = {
        "provision_id": lease.provision_id,
        "attempt": lease.attempt,
        "agent_id": lease.agent_id,
    }
    (folder / _ABOUT).write_bytes(orjson.dumps(about))


def lease_of(folder: Path) -> Lease:
    """Return whose log *folder* holds.

    :raises SpoolError: it is not a spool
    """
    try:
        about = orjson.loads((folder / _ABOUT).read_bytes())
        return Lease(
            ProvisionId(str(about["provision_id"])),
            int(about["attempt"]),
            AgentId(str(about["agent_id"])),
        )
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise SpoolError(f"{folder} is not a spool: {_ABOUT} cannot be read ({exc})") from exc


def discard(folder: Path) -> None:
    """Remove a spool, such as one whose every chunk is stored by the control plane."""
    shutil.rmtree(folder, ignore_errors=True)
