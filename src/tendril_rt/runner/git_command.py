"""Running one git command: hardened, within a deadline, and again where that can help.

Never prompts, never starts a transport that is not on the list, never runs a hook. A command that
speaks to a remote is repeated after errors of the network or the server, and not after a refusal:
a wrong password stays wrong, and may lock an account.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import anyio

from tendril_rt.aio.backoff import Backoff
from tendril_rt.errors import GitError, StepError
from tendril_rt.runner import process
from tendril_rt.runner.repository import Remote, without_credentials

_TRIES = 4
_LONGEST_PAUSE_S = 8.0
_SHOWN_CHARACTERS = 600
_HARDENED = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.attributesFile=/dev/null"),
    *("-c", "submodule.recurse=false"),
    *("-c", "fetch.recurseSubmodules=false"),
    *("-c", "http.followRedirects=initial"),
    *("-c", "http.lowSpeedLimit=1"),  # a connection that says nothing for a minute is given up,
    *("-c", "http.lowSpeedTime=60"),  # so that another try fits into the time limit
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GCM_INTERACTIVE": "never",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",
}
#: The machine's own configuration serves the network (proxies, helpers, trust stores) and nothing
#: else: what a commit's files are, and which filters run, must not depend on it.
_NO_CONFIGURATION = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
}

#: What git, curl and ssh say in the C locale. A refusal often ends in "the remote end hung up", so
#: refusals are looked for first.
_REFUSED = re.compile(
    r"authentication failed|could not read (?:username|password)|permission denied"
    r"|host key verification failed|access denied|not our ref|couldn't find remote ref"
    r"|repository .*not found|does not appear to be a git repository|returned error: 4(?!29|08)\d\d"
    r"|transport '.*' not allowed|certificate|does not exist|no such device or address"
)
_TRANSIENT = re.compile(
    r"could not resolve host|temporary failure in name resolution|failed to connect"
    r"|couldn't connect|connection (?:refused|reset|timed out|closed)|timed out|too slow"
    r"|network is unreachable|no route to host|returned error: (?:5\d\d|429|408)|rpc failed"
    r"|empty reply|early eof|unexpected (?:eof|disconnect)|hung up unexpectedly"
    r"|(?:recv|send) failure|ssl_error_syscall|tls connection was non-properly terminated"
    r"|unable to access .*(?:ssl|tls).*(?:eof|closed)|kex_exchange_identification"
)


class Fault(Enum):
    """Whose fault a failure is, and so what can help."""

    TRANSIENT = auto()  #: the network's or the server's: trying again may help
    REFUSED = auto()  #: the remote's answer, which would be the same again
    OTHER = auto()  #: perhaps ours: a damaged cache, a full disk


class GitFailed(GitError):
    """A git command ended with a failure."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class GitCommand:
    """How git is run for one checkout.

    :ivar env: of the agent, without its secrets
    :ivar access: what *remote* needs in addition: credentials, the ssh command
    :ivar deadline: of the whole checkout, as ``anyio.current_time()``
    :ivar first_pause_s: about so long until the second try, in seconds; then ever longer
    """

    env: Mapping[str, str]
    access: Mapping[str, str] = field(repr=False)
    remote: Remote
    allow_file: bool
    timeout_s: float
    deadline: float
    first_pause_s: float

    async def local(self, repository: Path, *arguments: str, **variables: str) -> str:
        """Run git on *repository*, with none of the machine's configuration; return its stdout.

        :raises GitFailed: with what git said
        """
        env = {**_NO_CONFIGURATION, "GIT_DIR": str(repository), **variables}
        return await self._run(repository, env, arguments)

    async def remotely(self, repository: Path, *arguments: str) -> str:
        """Run git on *repository* against the remote; return its stdout.

        :raises GitFailed: with what git said, without credentials, and how often it was tried
        """
        env = {
            **self.access,
            "GIT_DIR": str(repository),
            "GIT_ALLOW_PROTOCOL": "https:ssh:file" if self.allow_file else "https:ssh",
        }
        backoff = Backoff(self.first_pause_s, _LONGEST_PAUSE_S, floor_s=self.first_pause_s / 2)
        for tried in range(1, _TRIES + 1):
            try:
                return await self._run(repository.parent, env, arguments)
            except GitFailed as exc:
                pause_s = backoff.next_s()
                last = tried == _TRIES or anyio.current_time() + pause_s > self.deadline
                if exc.fault is not Fault.TRANSIENT:
                    raise
                if last:
                    raise GitFailed(f"{exc} (tried {tried} times)", exc.fault) from exc
            await anyio.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _run(self, cwd: Path, env: Mapping[str, str], arguments: tuple[str, ...]) -> str:
        left_s = max(0.0, self.deadline - anyio.current_time())
        try:
            code, stdout, stderr = await process.capture(
                ["git", *_HARDENED, *arguments],
                cwd=cwd,
                env={**self.env, **_ENVIRONMENT, **env},
                timeout_s=left_s,
            )
        except StepError as exc:
            if anyio.current_time() < self.deadline:
                raise GitError(f"git {arguments[0]}: {exc}") from exc
            raise GitError(
                f"git {arguments[0]} for {self.remote.url} was stopped: a template has to be "
                f"there within {self.timeout_s:g} s (TENDRIL_GIT_TIMEOUT_S)"
            ) from exc
        if code != 0:
            raise self._failure(arguments[0], code, stderr)
        return stdout

    def _failure(self, command: str, code: int, stderr: str) -> GitFailed:
        said = without_credentials(stderr.strip())
        for name in ("TENDRIL_GIT_USERNAME", "TENDRIL_GIT_PASSWORD"):
            said = said.replace(self.access.get(name) or "\0", "***")
        fault = fault_of(said)
        return GitFailed(
            f"git {command} failed for {self.remote.url}: "
            f"{said[-_SHOWN_CHARACTERS:] or f'exit code {code}'}. {_cure(said, fault)}",
            fault,
        )


def fault_of(stderr: str) -> Fault:
    """Return whose fault it is, from what git, curl and ssh say in the C locale."""
    said = stderr.lower()
    if _REFUSED.search(said):
        return Fault.REFUSED
    return Fault.TRANSIENT if _TRANSIENT.search(said) else Fault.OTHER


def _cure(said: str, fault: Fault) -> str:
    if "Host key verification failed" in said:
        return "Put the host's key (ssh-keyscan) into the file of TENDRIL_GIT_KNOWN_HOSTS_FILE"
    if fault is Fault.TRANSIENT:
        return "Check that the agent reaches the host, then submit again"
    if fault is Fault.OTHER:
        return (
            "Check the repository at that version, the agent's credentials, and the free space of "
            "TENDRIL_STATE_DIR and TENDRIL_WORKSPACE_DIR"
        )
    return (
        "Check that the repository exists and that the agent's credentials may read it "
        "(TENDRIL_GIT_CREDENTIALS_FILE, TENDRIL_GIT_SSH_KEY_FILE)"
    )
