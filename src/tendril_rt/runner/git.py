"""Fetching a template: exactly the commit that the version names, and nothing else.

resolve (ls-remote; not for a full commit) → fetch into the mirror (not if the commit is there) →
copy the files out → look at them. The workspace gets files alone, no ``.git``. Links that lead out
of the repository are refused, since Terraform would read what is behind them.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread

from tendril_rt.errors import GitError
from tendril_rt.model import TemplateSource
from tendril_rt.runner.credentials import Credentials
from tendril_rt.runner.disk import limited, used_bytes
from tendril_rt.runner.git_command import Fault, GitCommand, GitFailed
from tendril_rt.runner.mirror import Mirror, Mirrors
from tendril_rt.runner.repository import Remote, checked_repo, checked_version
from tendril_rt.runner.tree import refuse_links_out_of, root_module
from tendril_rt.settings import RunnerSettings

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FIRST_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A fetched template.

    :ivar commit: the commit whose files are there
    :ivar root_module: the folder that Terraform runs in
    """

    commit: str
    root_module: Path


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What to ask the remote for, and the commit that this was when it was resolved."""

    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class Git:
    """Fetches templates.

    :ivar env: the environment of every command, without the agent's secrets
    :ivar timeout_s: longest time for one checkout, in seconds
    :ivar max_bytes: a fetch that brings more is stopped
    :ivar first_pause_s: before a second try after an error of the network, in seconds
    """

    env: Mapping[str, str]
    mirrors: Mirrors
    credentials: Credentials
    timeout_s: float
    max_bytes: int
    allow_file: bool
    first_pause_s: float = _FIRST_PAUSE_S

    @classmethod
    def of(cls, settings: RunnerSettings, state_dir: Path, env: Mapping[str, str]) -> "Git":
        """Return git as the settings want it."""
        return cls(
            env=env,
            mirrors=Mirrors(state_dir / "git", settings.git_cache_max_bytes),
            credentials=Credentials(
                settings.git_credentials_file,
                settings.git_ssh_key_file,
                settings.git_known_hosts_file,
            ),
            timeout_s=settings.git_timeout_s,
            max_bytes=settings.git_max_bytes,
            allow_file=settings.allow_file_repos,
        )

    async def checkout(self, source: TemplateSource, into: Path) -> Checkout:
        """Fetch *source* into the new folder *into*.

        Cancellation: safe; what was fetched so far is removed.

        :raises GitError: with what git said, without credentials, and what to check
        """
        remote = Remote.of(checked_repo(source.repo, allow_file=self.allow_file))
        version = checked_version(source.version)
        command = GitCommand(
            env=self.env,
            access=self.credentials.environment(remote, self.env),
            remote=remote,
            allow_file=self.allow_file,
            timeout_s=self.timeout_s,
            deadline=anyio.current_time() + self.timeout_s,
            first_pause_s=self.first_pause_s,
        )
        self.mirrors.make_folder()
        wanted = await self._resolve(command, version)
        commit = wanted.commit
        mirror = self.mirrors.mirror(remote, commit)
        if not await self._copy_kept(command, mirror, commit, into):
            commit = await self._fetch_and_copy(command, mirror, wanted, into)
            await anyio.to_thread.run_sync(self.mirrors.evict)
        await anyio.to_thread.run_sync(refuse_links_out_of, into)
        return Checkout(commit, root_module(into, source))

    async def _resolve(self, command: GitCommand, version: str) -> _Wanted:
        """Find the tag, else the branch *version*; a full commit is what it says."""
        if _COMMIT.fullmatch(version):
            return _Wanted(version, version)  # also where a branch borrows its name
        tag, branch = f"refs/tags/{version}", f"refs/heads/{version}"
        peeled = f"{tag}^{{}}"  # the commit of an annotated tag
        ids = await self._refs(command, tag, peeled, branch)
        for ref in (tag, branch):
            if ref in ids:
                return _Wanted(ref, ids.get(f"{ref}^{{}}", ids[ref]))
        names = await self._refs(command, "refs/tags/*")
        known = [name.removeprefix("refs/tags/") for name in names if not name.endswith("^{}")]
        newest = f"its newest tags: {', '.join(known[-5:])}" if known else "it has no tags"
        raise GitError(
            f"version {version!r} is no tag, branch or full commit of {command.remote.url} "
            f"({newest}): push the version, or correct template_source.version"
        )

    async def _refs(self, command: GitCommand, *patterns: str) -> dict[str, str]:
        """Ask the remote; return ids by name, oldest version first."""
        nowhere = self.mirrors.folder / "none"  # no repository: its settings would count
        options = ("--tags", "--heads", "--sort=version:refname")
        listing = await command.remotely(
            nowhere, "ls-remote", *options, "--", command.remote.url, *patterns
        )
        lines = (line.split("\t", 1) for line in listing.splitlines() if "\t" in line)
        return {name: commit for commit, name in lines}

    async def _copy_kept(
        self, command: GitCommand, mirror: Mirror, commit: str, into: Path
    ) -> bool:
        """Copy *commit* out of the mirror; False if it is not there whole."""
        async with mirror.locked(shared=True, deadline=command.deadline):
            if not mirror.has(commit):
                return False
            try:
                await _copy(command, mirror, commit, into)
            except GitFailed as exc:
                _log.warning("a kept repository is damaged and fetched anew: %s", exc)
            else:
                return True
        await anyio.to_thread.run_sync(shutil.rmtree, into)
        async with mirror.locked(shared=False, deadline=command.deadline):
            await anyio.to_thread.run_sync(mirror.clear)
        return False

    async def _fetch_and_copy(
        self, command: GitCommand, mirror: Mirror, wanted: _Wanted, into: Path
    ) -> str:
        """Return the commit; a branch may have moved since it was resolved."""
        async with mirror.locked(shared=False, deadline=command.deadline):
            commit = wanted.commit
            if not mirror.has(commit):  # another attempt may have been faster
                commit = await self._fetch(command, mirror, wanted)
            await _copy(command, mirror, commit, into)
        return commit

    async def _fetch(self, command: GitCommand, mirror: Mirror, wanted: _Wanted) -> str:
        has_versions = await anyio.to_thread.run_sync(mirror.prepare, wanted.commit)
        try:
            return await self._fetch_once(command, mirror, wanted)
        except GitFailed as exc:
            if exc.fault is not Fault.OTHER or not has_versions:
                raise
            _log.warning("a kept repository may be damaged and is fetched anew: %s", exc)
        await anyio.to_thread.run_sync(mirror.clear)
        await anyio.to_thread.run_sync(mirror.prepare, wanted.commit)
        return await self._fetch_once(command, mirror, wanted)

    async def _fetch_once(self, command: GitCommand, mirror: Mirror, wanted: _Wanted) -> str:
        url = command.remote.url
        arguments = ("fetch", "--quiet", "--depth=1", "--no-tags", "--", url, wanted.ref)
        held_bytes = await anyio.to_thread.run_sync(used_bytes, mirror.path)
        try:
            await limited(
                lambda: command.remotely(mirror.path, *arguments),
                mirror.path,
                max_bytes=held_bytes + self.max_bytes,
                excess=lambda _: _TooLarge(
                    f"{url} at {wanted.ref} brings more than {self.max_bytes} bytes: make the "
                    "repository smaller, or raise TENDRIL_GIT_MAX_BYTES"
                ),
            )
            name = f"{mirror.fetched()}^{{commit}}"
            commit = (await command.local(mirror.path, "rev-parse", "--verify", name)).strip()
        except _TooLarge:
            mirror.clear()  # it may have arrived whole
            raise
        except BaseException:
            mirror.sweep()
            raise
        mirror.keep(commit)
        return commit


class _TooLarge(GitError):
    """A fetch brought more than it may."""


async def _copy(command: GitCommand, mirror: Mirror, commit: str, into: Path) -> None:
    """Write the files of *commit* into the new folder *into*; the index does not stay."""
    await anyio.Path(into).mkdir(mode=0o700)
    index = into.with_name(f"{into.name}.index")
    try:
        await command.local(
            mirror.path,
            *("read-tree", "--reset", "-u", "--no-recurse-submodules", commit),
            GIT_WORK_TREE=str(into),
            GIT_INDEX_FILE=str(index),
        )
    finally:
        index.unlink(missing_ok=True)
