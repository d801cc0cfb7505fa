"""The agent's own credentials for git: a mounted file for https, a key for ssh.

A credential goes into git's environment, bound to one host: never into argv, a message, a log or a
repository's configuration. Git asks the helper for that host alone, so a redirect to another host
gets nothing; what the machine's own helpers would do with it (store it, for example) is switched
off. Templates run as the agent's user: whoever may submit one can read these files.
"""

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tendril_rt.errors import GitError
from tendril_rt.runner.repository import Login, Remote

_HELPER = (
    '!f() { [ "$1" = get ] && printf "username=%s\\npassword=%s\\n" '
    '"$TENDRIL_GIT_USERNAME" "$TENDRIL_GIT_PASSWORD"; }; f'
)
_SSH = ("ssh", "-oBatchMode=yes", "-oConnectTimeout=20", "-oServerAliveInterval=20")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the agent's own credentials are; every file may be absent.

    :ivar file: lines in the format of git-credential-store
    :ivar ssh_key_file: a private key; then no other key is offered
    :ivar known_hosts_file: then hosts with other keys are refused, whatever ssh's own files say
    """

    file: Path | None = None
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None

    def environment(self, remote: Remote, env: Mapping[str, str]) -> dict[str, str]:
        """Return what git's environment needs for *remote*, in addition to *env*.

        Read anew each time, so that a renewed secret counts at once. What stands in the address
        goes before what is in the file.

        :raises GitError: a file is not there, or others may read it
        """
        if not remote.url.startswith("https:"):
            return self._for_ssh(env)
        login = remote.login or self._login(remote)
        if login is None:
            return {}
        return {
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "credential.helper",
            "GIT_CONFIG_VALUE_0": "",  # forget the machine's own helpers
            "GIT_CONFIG_KEY_1": f"credential.https://{remote.host}.helper",
            "GIT_CONFIG_VALUE_1": _HELPER,
            "TENDRIL_GIT_USERNAME": login.username,
            "TENDRIL_GIT_PASSWORD": login.password,
        }

    def _login(self, remote: Remote) -> Login | None:
        if self.file is None:
            return None
        wanted = urlsplit(remote.url)
        for line in _private_text(self.file, "TENDRIL_GIT_CREDENTIALS_FILE").splitlines():
            try:
                entry = urlsplit(line.strip())
                same = (entry.hostname, entry.port or 443) == (wanted.hostname, wanted.port or 443)
            except ValueError:
                continue  # no URL: git-credential-store passes over such a line, too
            folder = entry.path.rstrip("/")
            covered = not folder or f"{wanted.path}/".startswith(f"{folder}/")
            if entry.scheme == "https" and same and covered and entry.username is not None:
                return Login(unquote(entry.username), unquote(entry.password or ""))
        return None

    def _for_ssh(self, env: Mapping[str, str]) -> dict[str, str]:
        """A host is trusted by its known key alone: a pod would meet each host for the first time
        again and again, so "accept-new" would accept anybody.
        """
        options: list[str] = []
        if self.ssh_key_file:
            _check_private(self.ssh_key_file, "TENDRIL_GIT_SSH_KEY_FILE")
            options += ["-i", os.fspath(self.ssh_key_file), "-oIdentitiesOnly=yes"]
        if self.known_hosts_file:
            if not self.known_hosts_file.is_file():
                raise _missing(self.known_hosts_file, "TENDRIL_GIT_KNOWN_HOSTS_FILE")
            files = f'-oUserKnownHostsFile="{self.known_hosts_file}"'
            options += [files, "-oGlobalKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=yes"]
        if not options and "GIT_SSH_COMMAND" in env:
            return {}
        return {"GIT_SSH_COMMAND": shlex.join([*_SSH, *options])}


def _private_text(path: Path, setting: str) -> str:
    _check_private(path, setting)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise GitError(f"cannot read {path} ({setting}): {type(exc).__name__}") from exc


def _check_private(path: Path, setting: str) -> None:
    """A group may read: that is how Kubernetes mounts a Secret for a user that is not root.

    :raises GitError: the file is not there, or others could read or replace it
    """
    try:
        found = path.stat()
    except OSError as exc:
        raise _missing(path, setting) from exc
    others = stat.S_IMODE(found.st_mode) & (stat.S_IRWXO | stat.S_IWGRP)
    if not stat.S_ISREG(found.st_mode) or others or found.st_uid not in (0, os.geteuid()):
        raise GitError(
            f"{path} ({setting}) may be read or changed by others (mode "
            f"{stat.S_IMODE(found.st_mode):04o}): make it the agent's own, with mode 0600 or 0400"
        )


def _missing(path: Path, setting: str) -> GitError:
    return GitError(f"{path} ({setting}) is not there: mount it, or correct the setting")
