"""Attending a launched process: read its output, stop it when asked, and say how it ended.

The same for a process that this agent launched and for one that an agent before it did. A stop is
a policy: SIGINT to the group, wait, and SIGKILL only where the policy or a forced request says so.
SIGINT is sent once, whoever asks how often, before or after a crash: Terraform takes a second one
as the order to end without its state. Output is read by a shielded reader until the end, since a
child that blocks on a full pipe never sees its signal.
"""

import logging
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio
import anyio.lowlevel
import anyio.to_thread

from tendril_rt.errors import ProcessLost
from tendril_rt.runner.launched import FORCED, INTERRUPTED, RunFolder, Running, find
from tendril_rt.runner.watch import REAP_S, Watch, first_of

_LINGER_S = 10.0  # for a stray that cannot be found and goes on to write
_DISCARD_BYTES = 65536

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """How to stop a process.

    :ivar grace_s: wait after SIGINT, in seconds
    :ivar kill: SIGKILL the group afterwards; never for an apply, which would lose its state
    :ivar force_grace_s: between the second SIGINT, of a forced request, and SIGKILL
    :ivar timeout_s: longest run time; then it is interrupted as if somebody had asked for it
    """

    grace_s: float
    kill: bool
    force_grace_s: float = 15.0
    timeout_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class StopRequest:
    """What is asked of a running process. Only grows: interrupted, then forced."""

    interrupt: anyio.Event = field(default_factory=anyio.Event)
    force: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended.

    :ivar exit_code: negative for a signal
    :ivar stderr_tail: the end of its stderr, for messages
    :ivar timed_out: it was interrupted because it took longer than its policy allows
    """

    exit_code: int
    duration_s: float
    stderr_tail: bytes
    timed_out: bool = False


class Output(Protocol):
    """Reads a process's output."""

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> object:
        """Read until both are at their end, or *ended* is set and both are empty.

        Cancellation keeps what was read.
        """

    @property
    def stderr_tail(self) -> bytes:
        """The end of the stderr that was drained last."""
        ...


async def adopt(
    run_dir: Path, output: Output, policy: StopPolicy, request: StopRequest
) -> Finished:
    """Attend a process that an agent before this one launched, to the same end.

    Also one that has ended since. Cancellation: stops it by *policy*, shielded, then goes on.

    :raises ProcessLost: nobody can say how it ended; the output that was left was read
    """
    folder = RunFolder(run_dir)
    try:
        with folder.opened() as pipes:
            launcher = folder.launcher
            pid = launcher.pid if launcher is not None and launcher.is_alive else None
            watch = Watch(folder, pipes, pid)
            try:
                return await attend(watch, output, policy, request, ran_s=folder.ran_s())
            finally:
                folder.release()
    except FileNotFoundError as exc:
        raise ProcessLost(f"nothing was launched in {run_dir}") from exc


async def end_leftover(run_dir: Path, policy: StopPolicy) -> None:
    """Stop what an agent before this one launched in *run_dir*; its output is dropped.

    Returns at once if nothing runs there.
    """
    if isinstance(find(run_dir), Running):
        request = StopRequest()
        request.interrupt.set()
        with suppress(ProcessLost):
            await adopt(run_dir, _Unread(), policy, request)


async def attend(
    watch: Watch,
    output: Output,
    policy: StopPolicy,
    request: StopRequest,
    *,
    ran_s: float = 0.0,
) -> Finished:
    """Attend the watched process to its end, and leave nothing running that it started.

    Cancellation: stops it by *policy*, shielded, then goes on.

    :param ran_s: for how long it has been running, in seconds
    :raises ProcessLost: nobody can say how it ended
    """
    started_at = anyio.current_time() - ran_s
    halt, timed_out = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def wait_for_halt() -> None:
            try:
                await first_of(max(0.0, policy.timeout_s - ran_s), request.interrupt)
                if not request.interrupt.is_set():
                    timed_out.set()
            finally:  # also for a cancellation: there is one stop
                halt.set()

        tasks.start_soon(wait_for_halt)
        with anyio.CancelScope(shield=True):
            exit_code = await _read_to_end(watch, output, policy, request, halt)
        tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint_if_cancelled()
    if exit_code is None:
        raise ProcessLost(
            "the process is gone and left no exit code: it, or the launcher that waited for it, "
            "was killed, or the host went down"
        )
    return Finished(
        exit_code, anyio.current_time() - started_at, output.stderr_tail, timed_out.is_set()
    )


async def stop(
    folder: RunFolder, policy: StopPolicy, request: StopRequest, ended: anyio.Event
) -> None:
    """Interrupt the process's group once and wait; kill only where *policy* or *request* says so.

    Returns when *ended* is set, or when everything was killed.
    """
    is_first = folder.mark(INTERRUPTED)
    if is_first:
        folder.signal(signal.SIGINT)
    if is_first and request.force.is_set():  # forced from the start: one chance all the same
        await first_of(min(policy.grace_s, policy.force_grace_s), ended)
    else:
        await first_of(policy.grace_s, ended, request.force)
    if not (ended.is_set() or policy.kill or request.force.is_set()):
        _log.error("%s: still running %g s after SIGINT", folder.path, policy.grace_s)
        await first_of(float("inf"), ended, request.force)
    if request.force.is_set() and not ended.is_set():
        if folder.mark(FORCED):
            folder.signal(signal.SIGINT)
        await first_of(policy.force_grace_s, ended)
    if not ended.is_set():
        await anyio.to_thread.run_sync(folder.kill_all)


async def _read_to_end(
    watch: Watch, output: Output, policy: StopPolicy, request: StopRequest, halt: anyio.Event
) -> int | None:
    """Return the exit code once everything is over and read; None if nobody knows it."""
    folder, pipes = watch.folder, watch.pipes
    async with anyio.create_task_group() as tasks:
        ended, is_read = anyio.Event(), anyio.Event()

        async def read() -> None:
            await output.drain(pipes.stdout, pipes.stderr, ended)
            is_read.set()

        tasks.start_soon(read)
        try:
            await _to_end(watch, policy, request, halt)
        except BaseException:  # the reader failed: nobody will empty the pipes
            halt.set()
            with anyio.move_on_after(policy.grace_s + REAP_S, shield=True):
                await _to_end(watch, policy, request, halt)
            raise
        # Whoever still holds the pipes, in whatever session, could go on to write for ever.
        await anyio.to_thread.run_sync(folder.kill_all)
        ended.set()
        with anyio.move_on_after(_LINGER_S):
            await is_read.wait()
        tasks.cancel_scope.cancel()
    return folder.exit_code


async def _to_end(
    watch: Watch, policy: StopPolicy, request: StopRequest, halt: anyio.Event
) -> None:
    """Return when the process has ended; stop it when *halt* is set."""
    ended = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def stop_when_told() -> None:
            await halt.wait()
            await first_of(REAP_S, watch.known)  # a signal needs somebody to go to
            await stop(watch.folder, policy, request, ended)

        tasks.start_soon(stop_when_told)
        await watch.end()
        ended.set()
        tasks.cancel_scope.cancel()


class _Unread:
    """Throws output away."""

    stderr_tail = b""

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:
            for descriptor in (stdout, stderr):
                tasks.start_soon(self._discard, descriptor)
            await ended.wait()
            tasks.cancel_scope.cancel()

    async def _discard(self, descriptor: int) -> None:
        while True:
            await anyio.wait_readable(descriptor)
            os.read(descriptor, _DISCARD_BYTES)
