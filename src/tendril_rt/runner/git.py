"""Fetching a template: exactly the commit that the version names, and nothing else.

The repository and the version come from a row that somebody else wrote: they are checked before
they are arguments, follow ``--``, and only transports on an allow-list may run. Never prompts;
messages never hold a credential.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import anyio

from tendril_rt.errors import GitError, StepError
from tendril_rt.model import TemplateSource
from tendril_rt.runner import process

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,254}")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?![:-])\S+")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
_CREDENTIAL_HELPER = (
    '!f() { [ "$1" = get ] && printf "username=%s\\npassword=%s\\n" '
    '"$TENDRIL_GIT_USERNAME" "$TENDRIL_GIT_PASSWORD"; }; f'
)
_HARDENED = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "submodule.recurse=false"),
    *("-c", "advice.detachedHead=false"),
    *("-c", "credential.interactive=false"),
)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A fetched template.

    :ivar commit: the commit that is checked out
    :ivar root_module: the folder that Terraform runs in
    """

    commit: str
    root_module: Path


@dataclass(frozen=True, slots=True)
class Git:
    """How to run git.

    :ivar env: the environment of every command, without anything interactive
    :ivar timeout_s: longest time for one fetch, in seconds
    """

    env: Mapping[str, str]
    timeout_s: float
    allow_file: bool

    async def checkout(self, source: TemplateSource, into: Path) -> Checkout:
        """Fetch *source* into the new folder *into*.

        :raises GitError: with what git said, without credentials, and what to check
        """
        remote = Remote.of(checked_repo(source.repo, allow_file=self.allow_file))
        version = checked_version(source.version)
        await anyio.Path(into).mkdir(mode=0o700)
        await self._git(into, "init", "--quiet")
        ref = await self._resolve(into, remote, version)
        fetch = ("fetch", "--quiet", "--depth=1", "--no-tags", "--", remote.url, ref)
        await self._git(into, *fetch, remote=remote)
        await self._git(into, "checkout", "--quiet", "--detach", "FETCH_HEAD", remote=remote)
        commit = (await self._git(into, "rev-parse", "HEAD")).strip()
        return Checkout(commit, _root_module(into, source))

    async def _resolve(self, cwd: Path, remote: "Remote", version: str) -> str:
        """Return the full name of the tag or branch *version*, or *version* if it is a commit."""
        if _COMMIT.fullmatch(version):
            return version  # also where a branch borrows its name
        sorting = "--sort=version:refname"
        listing = await self._git(
            cwd, "ls-remote", "--tags", "--heads", sorting, "--", remote.url, remote=remote
        )
        names = [line.split("\t", 1)[1] for line in listing.splitlines() if "\t" in line]
        for ref in (f"refs/tags/{version}", f"refs/heads/{version}"):
            if ref in names:
                return ref
        tags = [n.removeprefix("refs/tags/") for n in names if n.startswith("refs/tags/")]
        known = [tag for tag in tags if not tag.endswith("^{}")][-5:]
        raise GitError(
            f"version {version!r} is no tag, branch or full commit of {remote.url}"
            f" ({'its newest tags: ' + ', '.join(known) if known else 'it has no tags'}): push the "
            "version, or correct template_source.version"
        )

    async def _git(self, cwd: Path, *arguments: str, remote: "Remote | None" = None) -> str:
        env = {
            **self.env,
            **(remote.credentials if remote else {}),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "https:ssh:file" if self.allow_file else "https:ssh",
            "LC_ALL": "C",
        }
        env.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        try:
            code, stdout, stderr = await process.capture(
                ["git", *_HARDENED, *arguments], cwd=cwd, env=env, timeout_s=self.timeout_s
            )
        except StepError as exc:
            raise GitError(f"git {arguments[0]}: {exc}") from exc
        if code != 0:
            raise GitError(_explain(arguments[0], code, stderr, remote))
        return stdout


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a template comes from.

    :ivar url: without credentials, fit for argv and messages
    :ivar credentials: what stood in the address, as environment of git: answered by a credential
        helper for that host alone, never seen in the list of processes
    """

    url: str
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, repo: str) -> "Remote":
        """Split a checked address."""
        parts = urlsplit(repo)
        if parts.scheme != "https" or parts.username is None:
            return cls(repo)
        host = parts.netloc.rpartition("@")[2]
        return cls(
            urlunsplit(parts._replace(netloc=host)),
            {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"credential.https://{host}.helper",
                "GIT_CONFIG_VALUE_0": _CREDENTIAL_HELPER,
                "TENDRIL_GIT_USERNAME": unquote(parts.username),
                "TENDRIL_GIT_PASSWORD": unquote(parts.password or ""),
            },
        )


def checked_repo(repo: str, *, allow_file: bool) -> str:
    """Return *repo* if it is an address that may be fetched.

    :raises GitError: another transport, an option, or a local path that is not allowed
    """
    shown = without_credentials(repo)[:200]
    if repo.startswith("-") or any(ord(c) <= 32 or ord(c) == 127 for c in repo):
        raise GitError(f"template_source.repo {shown!r} is not the address of a repository")
    try:
        parts = urlsplit(repo)
        names = [parts.hostname or "-", parts.username or "git"]
    except ValueError as exc:
        raise GitError(f"template_source.repo {shown!r} is not a URL: {exc}") from exc
    # A host or user that starts with - would be an option of the ssh client.
    is_remote = parts.scheme in ("https", "ssh") and not any(n.startswith("-") for n in names)
    if is_remote or _SCP_LIKE.fullmatch(repo):
        return repo
    if parts.scheme == "file":
        if allow_file:
            return repo
        raise GitError(
            f"template_source.repo {shown!r} is on the agent's own disk, which this agent does not "
            "allow: use https or ssh, or set TENDRIL_ALLOW_FILE_REPOS=true"
        )
    raise GitError(
        f"template_source.repo {shown!r} must be an https:// or ssh:// address or user@host:path"
    )


def checked_version(version: str) -> str:
    """Return *version* if it can only be the name of a tag or branch, or a commit.

    :raises GitError: it could be read as something else
    """
    if not _VERSION.fullmatch(version) or ".." in version or version.endswith((".lock", "/", ".")):
        raise GitError(
            f"template_source.version {version[:100]!r} is not the name of a tag, a branch or a "
            "full commit"
        )
    return version


def without_credentials(text: str) -> str:
    """Return *text* with the user part of every URL in it replaced."""
    return _CREDENTIALS.sub("***@", text)


def _root_module(into: Path, source: TemplateSource) -> Path:
    try:
        root = (into / source.path).resolve()
        is_folder = root.is_dir()
    except (OSError, RuntimeError, ValueError) as exc:  # too long, a link to itself, or with a NUL
        raise GitError(f"template_source.path {source.path[:100]!r} is no path: {exc}") from exc
    if not root.is_relative_to(into.resolve()):
        raise GitError(f"template_source.path {source.path!r} leads out of the repository")
    if not is_folder:
        raise GitError(
            f"template_source.path {source.path!r} is no folder of "
            f"{without_credentials(source.repo)} at {source.version}"
        )
    if not any((*root.glob("*.tf"), *root.glob("*.tf.json"), *root.glob("*.tofu"))):
        raise GitError(
            f"{without_credentials(source.repo)} at {source.version} has no Terraform files in "
            f"{source.path or 'its top folder'}: set template_source.path"
        )
    return root


def _explain(command: str, code: int, stderr: str, remote: Remote | None) -> str:
    said = without_credentials(stderr.strip())[-600:] or f"exit code {code}"
    where = f" for {remote.url}" if remote else ""
    return (
        f"git {command} failed{where}: {said}. Check that the repository exists and that the "
        "agent's credentials may read it"
    )
