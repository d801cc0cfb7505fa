"""Is a state lock safe to clear? What can be proven, with the command that clears it.

Terraform names a lock's holder by user, host and time. This agent keeps, per stack, a history of
the commands that may have taken the lock; where one of them fits, its processes are looked for: if
any of them lives, the lock is held; if none does, it is orphaned. Anything else is unknown.
"""

import getpass
import json
import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from tendril_rt.runner import private
from tendril_rt.runner.launched import RunFolder
from tendril_rt.runner.procfs import machine

_LOCKED_BY_ID = re.compile(r"already locked:\s+ID=(\S+)")  # the http backend
_FIELD = re.compile(r"^\s*(ID|Path|Operation|Who|Version|Created):[ \t]*(.*?)\s*$", re.MULTILINE)
_CREATED = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,6})?\d* \+0000")
#: What Terraform calls the commands that take a lock, in that lock.
OPERATIONS = {"plan": "OperationTypePlan", "apply": "OperationTypeApply"}
_KEPT = 20  # commands in the history of a stack
_HISTORY_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)


class LockState(StrEnum):
    """What is known of a lock's holder."""

    HELD_BY_LIVE_ATTEMPT = "HELD_BY_LIVE_ATTEMPT"
    ORPHANED = "ORPHANED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class LockInfo:
    """What Terraform said of a lock that it met.

    :ivar created_at: seconds since 1970, None if it could not be read
    """

    id: str
    path: str
    operation: str
    who: str
    created_at: float | None


@dataclass(frozen=True, slots=True)
class LockUse:
    """One command of this agent that may have taken the lock.

    :ivar operation: as Terraform calls it in a lock
    :ivar run_dir: of the launched process, by which everything that it started is found
    :ivar began_at: seconds since 1970, as is :attr:`ended_at`; that is None until it has ended
    """

    provision_id: str
    attempt: int
    operation: str
    who: str
    machine: str
    run_dir: str
    began_at: float
    ended_at: float | None = None
    was_killed: bool = False

    @property
    def key(self) -> tuple[str, int, str]:
        return self.provision_id, self.attempt, self.operation

    def fits(self, lock: LockInfo) -> bool:
        """Tell whether this command can be the one that took *lock*."""
        if (self.who, self.operation) != (lock.who, lock.operation) or lock.created_at is None:
            return False
        return self.began_at <= lock.created_at <= (self.ended_at or float("inf"))

    @property
    def is_alive(self) -> bool | None:
        """None if it cannot be told from here: another boot, or another container."""
        if self.machine != machine():
            return None
        return RunFolder(Path(self.run_dir)).has_living


@dataclass(frozen=True, slots=True)
class LockAdvice:
    """What to do about a lock.

    :ivar id: the lock's, None if Terraform did not say it
    :ivar command: to be run in the initialised root module
    """

    state: LockState
    id: str | None
    command: str
    reason: str

    @property
    def text(self) -> str:
        return f"State lock {self.state.value}: {self.reason}: {self.command}"

    def as_metadata(self) -> Mapping[str, object]:
        return asdict(self)


def parse(block: str) -> LockInfo | None:
    """Read what Terraform says when it does not get a lock; None if that names none."""
    found = dict(_FIELD.findall(block))
    if not found.get("ID"):
        return None
    return LockInfo(
        found["ID"],
        found.get("Path", ""),
        found.get("Operation", ""),
        found.get("Who", ""),
        _seconds(found.get("Created", "")),
    )


def advise(
    block: str | None,
    use: LockUse,
    history: Sequence[LockUse],
    *,
    was_killed: bool,
    program: str,
    backend: str | None,
) -> LockAdvice | None:
    """Say what to do about the lock after a failed command; None if there is nothing to be done.

    :param block: what Terraform said of a lock that it met
    :param use: the failed command
    :param history: the commands of this stack before it
    :param was_killed: the failed command may have taken the lock and could not give it back
    :param backend: its kind, if known
    """
    lock = parse(block) if block is not None else None
    if lock is not None and block is not None:
        if lock.who == use.who and lock.created_at is not None and use.began_at <= lock.created_at:
            # Some backends show the request that failed, not the holder.
            return _on_unnamed(_LOCKED_BY_ID.search(block), history, program)
        return _on_lock(lock, history, program, backend)
    return _after_death(program, backend) if was_killed else None


def _on_lock(
    lock: LockInfo, history: Sequence[LockUse], program: str, backend: str | None
) -> LockAdvice:
    unlock = f"{program} force-unlock -force {lock.id}"
    holders = [(use, use.is_alive) for use in history if use.fits(lock)]
    for use, is_alive in holders:
        if is_alive:
            reason = f"{_named(use)} holds it and is alive; wait for its end. Only if it hangs"
            return LockAdvice(LockState.HELD_BY_LIVE_ATTEMPT, lock.id, unlock, reason)
    whose = f"{lock.who} took it for {lock.operation}"
    if backend == "local":  # the kernel's own lock: it never outlives its holder
        reason = f"{whose} and lives, since a lock on a local file ends with its process; find it"
        return LockAdvice(LockState.UNKNOWN, lock.id, f"fuser -v '{lock.path}'", reason)
    for use, is_alive in holders:
        if is_alive is False:
            reason = f"{_named(use)} took it, and its process is dead; clear it"
            return LockAdvice(LockState.ORPHANED, lock.id, unlock, reason)
    elsewhere = ", on another boot or in another container of this agent" if holders else ""
    reason = f"{whose}{elsewhere}; make sure that nobody works on the state any more, then clear it"
    return LockAdvice(LockState.UNKNOWN, lock.id, unlock, reason)


def _on_unnamed(
    found: re.Match[str] | None, history: Sequence[LockUse], program: str
) -> LockAdvice:
    """Judge a lock of which the backend says at most the id."""
    lock_id = found[1] if found else None
    unlock = f"{program} force-unlock -force {lock_id or '<ID>'}"
    for use in history:
        if use.is_alive:
            reason = (
                f"{_named(use)} works on this state and is alive; wait for its end. Only if not"
            )
            return LockAdvice(LockState.HELD_BY_LIVE_ATTEMPT, lock_id, unlock, reason)
    known = [use for use in history if use.ended_at is None or use.was_killed]
    perhaps = f" ({_named(known[-1])} was killed and may have left it)" if known else ""
    where = "" if lock_id else ", nor its ID: ask the backend for it"
    reason = (
        f"the backend does not say who holds it{where}{perhaps}; make sure that nobody works on "
        "the state any more, then clear it"
    )
    return LockAdvice(LockState.UNKNOWN, lock_id, unlock, reason)


def _after_death(program: str, backend: str | None) -> LockAdvice:
    plan = f"{program} plan -input=false"
    if backend == "local":
        reason = "the process is dead, and its lock on a local file with it; go on"
        return LockAdvice(LockState.ORPHANED, None, plan, reason)
    reason = (
        "the process is dead and may have left the lock. If so this shows its ID, and "
        f"'{program} force-unlock -force <ID>' clears it"
    )
    return LockAdvice(LockState.ORPHANED, None, plan, reason)


@dataclass(slots=True)
class Noted:
    """A command while it runs, and those of its stack before it.

    :ivar was_killed: to be set when it did not end by itself
    """

    use: LockUse
    before: Sequence[LockUse]
    was_killed: bool = False


class LockHistory:
    """The commands of this agent on one stack, kept in *path* (0600), one attempt at a time.

    A disk that refuses costs the proof, not the run: it is said in the log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[LockUse]:
        """Return the latest commands, oldest first; nothing if the file cannot be read."""
        try:
            text = private.read(self._path, max_bytes=_HISTORY_BYTES)
            return [LockUse(**item) for item in json.loads(text)]
        except (OSError, ValueError, TypeError, RecursionError):
            return []

    @contextmanager
    def during(self, use: LockUse) -> Iterator["Noted"]:
        """Note *use* while the block runs its command; yield it with those before.

        One that was noted before a restart of the agent keeps its beginning.
        """
        known = self.read()
        others = [other for other in known if other.key != use.key]
        begun = min([use, *(other for other in known if other.key == use.key)], key=_beginning)
        self._write([*others, begun])
        noted = Noted(begun, others)
        try:
            yield noted
        finally:
            ended = replace(begun, ended_at=time.time(), was_killed=noted.was_killed)
            self._write([*others, ended])

    def _write(self, uses: Sequence[LockUse]) -> None:
        try:
            private.write(self._path, json.dumps([asdict(use) for use in uses[-_KEPT:]]))
        except OSError as exc:
            _log.error("cannot write %s: %s; lock advice will know less", self._path, exc)


def who() -> str:
    """Return what Terraform, run by this process, writes as a lock's holder."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _beginning(use: LockUse) -> float:
    return use.began_at


def _named(use: LockUse) -> str:
    return f"attempt {use.attempt} of provision {use.provision_id}"


def _seconds(created: str) -> float | None:
    found = _CREATED.match(created)
    if found is None:
        return None
    day, clock, fraction = found.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)
    except ValueError:  # a thirteenth month
        return None
    return whole.timestamp() + float(fraction or 0)
