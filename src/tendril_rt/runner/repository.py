"""Addresses and versions of templates, checked before anything runs with them.

They come from a row that somebody else wrote: what git or ssh could take for an option, a command
or another transport is refused here. Pure; messages never hold a credential.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from tendril_rt.errors import GitError

_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,254}")
_SCP_LIKE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*:(?![:-])\S+")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and a password or token for one host."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a template comes from.

    :ivar url: without credentials, fit for argv and messages
    :ivar login: what stood in the address
    """

    url: str
    login: Login | None = None

    @classmethod
    def of(cls, repo: str) -> "Remote":
        """Split an address that :func:`checked_repo` passed."""
        parts = urlsplit(repo)
        if parts.scheme != "https" or parts.username is None:
            return cls(repo)
        host = parts.netloc.rpartition("@")[2]
        login = Login(unquote(parts.username), unquote(parts.password or ""))
        return cls(urlunsplit(parts._replace(netloc=host)), login)

    @property
    def host(self) -> str:
        """``host`` or ``host:port``, as the address has it; empty for user@host:path."""
        return urlsplit(self.url).netloc


def checked_repo(repo: str, *, allow_file: bool) -> str:
    """Return *repo* if it is an address that may be fetched.

    :raises GitError: another transport, an option, or a local path that is not allowed
    """
    shown = re.split(r"[?#]", without_credentials(repo))[0][:200]
    if repo.startswith("-") or any(ord(c) <= 32 or ord(c) == 127 for c in repo):
        raise GitError(f"template_source.repo {shown!r} is not the address of a repository")
    try:
        parts = urlsplit(repo)
        names = [parts.hostname or "-", parts.username or "git"]
        words = unquote(f"{parts.username}{parts.password}")
    except ValueError as exc:
        raise GitError(f"template_source.repo {shown!r} is not a URL: {exc}") from exc
    _check_parts(shown, parts.scheme, has_query="?" in repo or "#" in repo, words=words)
    if parts.scheme == "ssh" and parts.password is not None:
        raise GitError(
            f"template_source.repo {shown!r} has a password, which ssh would show in its command "
            "line: use a key (TENDRIL_GIT_SSH_KEY_FILE)"
        )
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


def _check_parts(shown: str, scheme: str, *, has_query: bool, words: str) -> None:
    if scheme in ("https", "ssh") and has_query:
        raise GitError(
            f"template_source.repo {shown!r} goes on with ? or #, where git knows nothing and a "
            "token would be seen: name the version in template_source.version, and a token as "
            "https://user:token@host"
        )
    # In git's protocol for credentials a line break would begin another field, such as the host.
    if any(ord(c) < 32 for c in words):
        raise GitError(f"template_source.repo {shown!r} has a control character in its user part")
