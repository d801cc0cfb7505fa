"""What a bootstrap has begun and found, as JSON lines: for the run that goes on after it.

One file, 0600, only ever appended to; the last fact of a name counts. A line that a crash cut short
is passed over. Never holds a secret: whoever loses a token makes another.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tendril_rt.errors import ConfigError
from tendril_rt.runner import flock


class Journal:
    """See the module; made by :func:`opened`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts: dict[str, str] = {}
        for entry in _entries(path):
            facts = entry.get("facts")
            if isinstance(facts, dict):
                self._facts |= facts

    def fact(self, name: str) -> str | None:
        """Return what was noted last under *name*."""
        return self._facts.get(name)

    def note(self, **facts: str) -> None:
        """Note facts, on disk before this returns; what is known already is not written again.

        :raises ConfigError: the disk refuses
        """
        fresh = {name: value for name, value in facts.items() if self._facts.get(name) != value}
        if fresh:
            self._append({"facts": fresh})
            self._facts |= fresh

    def step(self, name: str, event: str) -> None:
        """Note that step *name* was ``begun``, is ``done`` or has ``failed``.

        :raises ConfigError: the disk refuses
        """
        self._append({"step": name, "event": event})

    def forget(self, *, but: Collection[str] = ()) -> None:
        """Begin anew: what the journal spoke of is gone. The old one is kept beside it.

        :param but: names of facts that still hold
        :raises ConfigError: the disk refuses
        """
        if self._path.exists():
            self._path.replace(self._path.with_suffix(".destroyed.jsonl"))
        kept = {name: value for name, value in self._facts.items() if name in but}
        self._facts = {}
        self.note(**kept)

    def _append(self, entry: Mapping[str, object]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = f"{json.dumps({'at': at, **entry})}\n".encode()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, line if _ends_whole(self._path) else b"\n" + line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise ConfigError(f"{self._path} cannot be written: {exc.strerror or exc}") from exc


@contextmanager
def opened(folder: Path, *, is_dry: bool = False) -> Iterator[Journal]:
    """Hold the journal in *folder*, which is made (0700), until the block ends.

    :param is_dry: only look: neither folder nor lock is made
    :raises ConfigError: another bootstrap of the same name runs, or the folder cannot be used
    """
    path = folder / "journal.jsonl"
    if is_dry:
        yield Journal(path)
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = flock.take(folder / "lock")
    except BlockingIOError as exc:
        raise ConfigError(f"another grape bootstraps in {folder}: wait until it has ended") from exc
    except OSError as exc:
        raise ConfigError(f"{folder} cannot be used: {exc.strerror or exc}") from exc
    try:
        yield Journal(path)
    finally:
        os.close(lock)


def _entries(path: Path) -> Iterator[Mapping[str, object]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # cut short by a crash
            continue
        if isinstance(entry, dict):
            yield entry


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return True
        file.seek(size - 1)
        return file.read(1) == b"\n"
