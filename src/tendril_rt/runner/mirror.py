"""Fetched repositories, kept for the next time: bare, shallow, one folder per address.

A version that was fetched once is there by its full commit and needs no network again. Files are
copied out of a mirror with git's own checkout: nothing in a workspace refers to it, so a template
cannot write back into it, and it may be removed at any time. No credential and nothing of the
machine's configuration is in it. Readers hold a shared lock, whoever fetches or removes an
exclusive one; both are lost with their process. There is no garbage collection: a mirror of many
versions begins anew.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from tendril_rt.errors import GitError
from tendril_rt.runner import flock
from tendril_rt.runner.disk import used_bytes
from tendril_rt.runner.repository import Remote

_MAX_VERSIONS = 100
_SHA256_DIGITS = 64
_CONFIG = """\
[core]
\trepositoryformatversion = {version}
\tbare = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\twriteCommitGraph = false
{extensions}"""


@dataclass(frozen=True, slots=True)
class Mirror:
    """What is kept of one repository. Its methods need the lock that each names."""

    path: Path
    lock_file: Path

    @asynccontextmanager
    async def locked(self, *, shared: bool, deadline: float) -> AsyncIterator[None]:
        """Hold the mirror's lock for the block.

        :param deadline: how long to wait for it, as ``anyio.current_time()``
        :raises GitError: another attempt is still busy with it then
        """
        try:
            with anyio.fail_after(deadline - anyio.current_time()):
                lock = await flock.wait_for(self.lock_file, shared=shared)
        except TimeoutError as exc:
            raise GitError(
                "another attempt was fetching the same repository all the time: submit again, or "
                "raise TENDRIL_GIT_TIMEOUT_S"
            ) from exc
        try:
            os.utime(lock)  # what was used last is removed last
            yield
        finally:
            os.close(lock)

    def has(self, commit: str) -> bool:
        """Tell whether *commit* was fetched (shared lock)."""
        return self._mark(commit).is_file()

    def prepare(self, commit: str) -> bool:
        """Make the repository ready to fetch *commit*; True if it holds other versions already.

        Removes what a fetch that was killed left behind (exclusive lock).
        """
        marks = self._mark(commit).parent
        kept = len(os.listdir(marks)) if marks.is_dir() else 0
        if kept >= _MAX_VERSIONS:
            self.clear()
            kept = 0
        self.sweep()
        if not (self.path / "HEAD").is_file():
            self._make(len(commit))
        return kept > 0

    def fetched(self) -> str:
        """Return the id of what was fetched last (exclusive lock)."""
        words = (self.path / "FETCH_HEAD").read_text(encoding="utf-8", errors="replace").split()
        return words[0] if words else ""

    def keep(self, commit: str) -> None:
        """Note that *commit* was fetched whole (exclusive lock).

        The note is a ref, so that the next fetch can tell the remote what is there already.
        """
        mark = self._mark(commit)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(f"{commit}\n", encoding="ascii")

    def sweep(self) -> None:
        """Remove what an unfinished fetch left (exclusive lock)."""
        for pattern in ("*.lock", "objects/pack/tmp_*", "objects/pack/*.lock"):
            for path in self.path.glob(pattern):
                path.unlink(missing_ok=True)
        for path in self.path.glob("objects/tmp_objdir*"):
            shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Remove everything (exclusive lock)."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _make(self, digits: int) -> None:
        is_sha256 = digits == _SHA256_DIGITS
        extensions = "[extensions]\n\tobjectFormat = sha256\n" if is_sha256 else ""
        for name in ("objects", "refs"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        config = _CONFIG.format(version=int(is_sha256), extensions=extensions)
        (self.path / "config").write_text(config, encoding="ascii")
        (self.path / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")  # the last

    def _mark(self, commit: str) -> Path:
        return self.path / "refs" / "tendril" / commit


@dataclass(frozen=True, slots=True)
class Mirrors:
    """All that is kept.

    :ivar max_bytes: removed beyond it: what was used the longest ago, and is not in use
    """

    folder: Path
    max_bytes: int

    def make_folder(self) -> None:
        """Make the folder, mode 0700.

        :raises GitError: it cannot be made
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise GitError(
                f"cannot keep repositories in {self.folder}: {exc.strerror or exc}. Check the "
                "permissions and the free space of TENDRIL_STATE_DIR"
            ) from exc

    def mirror(self, remote: Remote, commit: str) -> Mirror:
        """Return the mirror for *remote* and ids as long as *commit*, whether it exists or not.

        Its name depends on the login in the address: who has none must not be served what
        somebody else's has fetched. The folder must exist.
        """
        login = f"{remote.login.username}\0{remote.login.password}" if remote.login else ""
        identity = f"{remote.url}\0{login}\0{len(commit)}".encode()
        name = hashlib.blake2b(identity, key=self._key(), digest_size=16).hexdigest()
        return Mirror(self.folder / f"{name}.git", self.folder / f"{name}.lock")

    def evict(self) -> None:
        """Bring the whole below its limit; blocks. What is in use stays."""
        sizes = {mirror: used_bytes(mirror.path) for mirror in self._oldest_first()}
        total = sum(sizes.values())
        for mirror, size in sizes.items():
            if total <= self.max_bytes:
                return
            with suppress(BlockingIOError):
                lock = flock.take(mirror.lock_file)
                try:
                    mirror.clear()
                    mirror.lock_file.unlink(missing_ok=True)
                    total -= size
                finally:
                    os.close(lock)

    def _oldest_first(self) -> Iterator[Mirror]:
        """By the time of the lock file, which each use renews."""
        used_at: dict[Path, float] = {}
        for path in self.folder.glob("*.lock"):
            with suppress(FileNotFoundError):
                used_at[path] = path.stat().st_mtime
        for path in sorted(used_at, key=used_at.__getitem__):
            yield Mirror(path.with_suffix(".git"), path)

    def _key(self) -> bytes:
        """Return this cache's own secret, so that no name says anything about a password."""
        path = self.folder / "key"
        with suppress(FileNotFoundError):
            return path.read_bytes()
        draft = self.folder / f"key.{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(32))
        with suppress(FileExistsError):
            os.link(draft, path)  # whoever is first; a half-written key is never seen
        draft.unlink()
        return path.read_bytes()
