"""The folder of one launched process: who runs, how it ended, and what was asked of it.

``launcher.sh`` writes it, whoever attends the process reads it: the agent that started it, or one
that comes after a crash. Nothing here starts a process. A process is known by pid and start time
(runner/procfs.py). Everything that it starts carries the folder's path in its environment, by
which strays are found that left its group.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.runner.census import Census, has_variable, living
from tendril_rt.runner.procfs import Identity, machine, read_line

#: In the environment of a launched process and of all that it starts: the path of its folder.
COOKIE = "PROVISION_STEP_DIR"
_PIPE_BYTES = 1024 * 1024  # of room while nobody reads; as much as Linux gives an ordinary user
#: Marks: the first SIGINT was sent, and the second, of a forced request.
INTERRUPTED = "interrupted"
FORCED = "forced"
_FIFOS = ("stdout", "stderr", "events")
_KILL_ROUNDS = 20  # one that forks faster than it is killed is given up
_MAX_SIGNAL = 64


@dataclass(frozen=True, slots=True)
class Running:
    """The process lives, or its launcher is about to say how it ended."""

    pid: int


@dataclass(frozen=True, slots=True)
class Ended:
    """:ivar exit_code: negative for a signal"""

    exit_code: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """Neither the process nor an exit code is there: the host or its launcher went down."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """The FIFOs of a folder, opened without blocking; they never come to an end of their own."""

    stdout: int
    stderr: int
    events: int


class RunFolder:
    """See the module. Several may look at one folder; only one attends its process.

    :ivar was_seen_alive: this object was there while the process lived, so that the number of its
        group cannot have been given out again meanwhile
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.was_seen_alive = False
        self._process: Identity | None = None
        self._exit_code: int | None = None
        self._heard = b""
        self._before: Census | None = None  # those who were there before the process was launched

    def make(self) -> None:
        """Make the folder (0700) and its FIFOs (0600); there may be no folder of that name.

        :raises OSError: the disk refuses, or it is there already
        """
        self.path.mkdir(mode=0o700, parents=True)
        for name in _FIFOS:
            os.mkfifo(self.path / name, 0o600)
        (self.path / "machine").write_text(machine())
        self._before = Census.take()

    @contextmanager
    def opened(self) -> Iterator[Pipes]:
        """Hold the FIFOs open until the block ends.

        For reading and writing: so they wait for a writer without an end, and give none a SIGPIPE.

        :raises OSError: they are not there
        """
        descriptors: list[int] = []
        try:
            for name in _FIFOS:
                flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
                descriptors.append(os.open(self.path / name, flags))
            for descriptor in descriptors[:2]:
                with suppress(OSError):  # too many of them are large already: it stays at 64 KB
                    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            yield Pipes(*descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    @property
    def launcher(self) -> Identity | None:
        return Identity.parse(read_line(self.path / "launcher"))

    @property
    def process(self) -> Identity | None:
        """The launched process; None as long as its launcher has not said."""
        if self._process is None:
            self._process = Identity.parse(read_line(self.path / "process"))
        return self._process

    @property
    def exit_code(self) -> int | None:
        if self._exit_code is None:
            self._exit_code = _exit_code(read_line(self.path / "exit_code"))
        return self._exit_code

    def hear(self, said: bytes) -> None:
        """Take in what came through ``events``: it stands in for files that the disk refused."""
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            word, _, rest = line.decode(errors="replace").partition(" ")
            if word == "started":
                self._process = Identity.parse(f"{rest}\n")
            elif word == "ended":
                self._exit_code = _exit_code(f"{rest}\n")

    def ran_s(self) -> float:
        """Return for how long the process has been running, or ran, in seconds.

        Files have times of the wall clock, which may have been set meanwhile: nothing ran for
        longer than it has been since its start by the clock of the boot.
        """
        process = self.process
        if process is None:
            return 0.0
        is_known = read_line(self.path / "machine") == machine()
        since_start_s = process.age_s if is_known else float("inf")
        try:
            ended_at = (self.path / "exit_code").stat().st_mtime
            ran_s = ended_at - (self.path / "process").stat().st_mtime
        except OSError:  # it is not over
            return since_start_s if is_known else 0.0
        return min(max(0.0, ran_s), since_start_s)

    def find(self) -> Running | Ended | Vanished:
        """Say what is known of the process."""
        code = self.exit_code
        if code is not None:
            return Ended(code)
        process, launcher = self.process, self.launcher
        if read_line(self.path / "machine") != machine() or process is None:
            return Vanished()
        if process.is_alive or (launcher is not None and launcher.is_alive):
            return Running(process.pid)
        return Vanished()

    def mark(self, name: str) -> bool:
        """Note for good that *name* was done; False if it had been already."""
        try:
            os.close(os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        except OSError:  # no inode is free: better once more after a crash than not at all
            return True
        return True

    @property
    def was_interrupted(self) -> bool:
        return (self.path / INTERRUPTED).exists()

    @property
    def was_forced(self) -> bool:
        """Tell whether a second SIGINT was sent: Terraform ends without its state, or its lock."""
        return (self.path / FORCED).exists()

    def signal(self, number: signal.Signals) -> None:
        """Send *number* to the process and to all of its group, if it lives."""
        process = self.process
        if process is None or not process.is_alive:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has no group of its own yet: it is not even exec'ed
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    def kill_all(self) -> None:
        """SIGKILL the process and everything that it started, in whatever session.

        Not found are processes that cleared their environment, or run as another user. Reads
        ``/proc``, so it belongs into a thread.
        """
        process, launcher = self.process, self.launcher
        if process is not None and self.was_seen_alive:
            with suppress(ProcessLookupError):  # also those whose leader has ended
                os.killpg(process.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)
        spared = {os.getpid()} | ({launcher.pid} if launcher else set())
        for _ in range(_KILL_ROUNDS):
            strays = [pid for pid in self._members() if pid not in spared]
            for pid in strays:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            if not strays:
                return

    @property
    def has_living(self) -> bool:
        """Tell whether the process or anything that it started lives; reads ``/proc``."""
        launcher = self.launcher
        return any(launcher is None or pid != launcher.pid for pid in self._members())

    @property
    def is_over(self) -> bool:
        """False while the process lives, or may yet begin."""
        process = self.process
        return self.exit_code is not None or (process is not None and not process.is_alive)

    def release(self) -> None:
        """Let the launcher go: its process is over and the output read."""
        launcher = self.launcher
        if self.is_over and launcher is not None and launcher.is_alive:
            with suppress(ProcessLookupError):
                os.kill(launcher.pid, signal.SIGKILL)

    def _members(self) -> Iterator[int]:
        pids = self._before.newcomers() if self._before else living()
        return (int(pid) for pid in pids if has_variable(pid, f"{COOKIE}={self.path}"))


def find(run_dir: Path) -> Running | Ended | Vanished:
    """Say what is known of the process that was launched in *run_dir*."""
    return RunFolder(run_dir).find()


def _exit_code(text: str) -> int | None:
    """Return a shell's ``$?`` with signals as negative numbers; None for a line that is cut.

    A program that itself ends with 137 cannot be told from one that signal 9 ended; Terraform ends
    with 0, 1 or 2.
    """
    if not text.endswith("\n") or not text.strip().isdecimal():
        return None
    code = int(text)
    return 128 - code if 128 < code <= 128 + _MAX_SIGNAL else code
