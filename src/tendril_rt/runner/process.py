"""The only module that starts processes, and the one way to stop them.

Every child gets a session of its own, so that a signal reaches all it started; the parent's
terminal sends it nothing. anyio would SIGKILL a child whose scope is cancelled, in the middle of
an apply; so here a stop is a policy: SIGINT to the group, wait, and SIGKILL only where the policy
says so. Output is drained by a shielded reader until its end, since a child that blocks on a full
pipe never sees its signal.
"""

import fcntl
import logging
import os
import signal
import subprocess
import termios
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.lowlevel
from anyio.abc import Process

from tendril_rt.errors import StepError

_LINGER_S = 1.0  # for a stray that holds the pipes after its process has ended
_LINGER_STEP_S = 0.005
_REAP_S = 5.0  # to reap after SIGKILL: uninterruptible I/O may take a moment
_CAPTURE_LIMIT_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StopPolicy:
    """How to stop a process.

    :ivar grace_s: wait after SIGINT, in seconds
    :ivar kill: SIGKILL the group afterwards; never for an apply, which would lose its state
    """

    grace_s: float
    kill: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended.

    :ivar exit_code: negative for a signal
    :ivar stderr_tail: the end of its stderr, for messages
    """

    exit_code: int
    duration_s: float
    stderr_tail: bytes


class Output(Protocol):
    """Reads a process's output."""

    async def drain(self, stdout: int, stderr: int) -> object:
        """Read both descriptors to their end. Cancellation keeps what was read."""

    @property
    def stderr_tail(self) -> bytes:
        """The end of the stderr that was drained last."""
        ...


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    output: Output,
    policy: StopPolicy,
    interrupt: anyio.Event,
) -> Finished:
    """Run *argv* to its end and return how it ended.

    When *interrupt* is set, the process is stopped by *policy* and its true exit code returned.
    Cancellation: the same stop, shielded, then the cancellation goes on; so it takes as long as
    the policy allows.

    :raises StepError: the program cannot be started
    """
    started_at = anyio.current_time()
    halt = anyio.Event()  # set once, by the interrupt or by a cancellation: there is one stop
    async with (
        _spawned(argv, cwd=cwd, env=env) as (process, stdout, stderr),
        anyio.create_task_group() as tasks,
    ):

        async def watch() -> None:
            try:
                await interrupt.wait()
            finally:
                halt.set()

        tasks.start_soon(watch)
        with anyio.CancelScope(shield=True):
            async with _reading(output.drain, stdout, stderr):
                try:
                    await _wait(process, policy, halt)
                except BaseException:  # the reader failed: nobody will empty the pipes
                    with anyio.move_on_after(policy.grace_s + _REAP_S, shield=True):
                        await stop(process, policy)
                    raise
                kill_group(process)
        tasks.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint_if_cancelled()
    assert process.returncode is not None  # noqa: S101 - _wait returns after the process's end
    return Finished(process.returncode, anyio.current_time() - started_at, output.stderr_tail)


async def capture(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
) -> tuple[int, str, str]:
    """Run a short command; return its exit code, stdout and stderr (1 MB of each at most).

    Cancellation: the process group is killed.

    :raises StepError: it cannot be started, or is not done after *timeout_s* seconds
    """
    collected = {0: bytearray(), 1: bytearray()}

    async def collect(stdout: int, stderr: int) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_collect, stdout, collected[0])
            tasks.start_soon(_collect, stderr, collected[1])

    async with _spawned(argv, cwd=cwd, env=env) as (process, stdout, stderr):
        try:
            with anyio.fail_after(timeout_s):
                async with _reading(collect, stdout, stderr):
                    await process.wait()
                    kill_group(process)
        except TimeoutError as exc:
            raise StepError(
                f"{argv[0]} was not done after {timeout_s:g} s and was stopped"
            ) from exc
        finally:
            if process.returncode is None:
                with anyio.move_on_after(_REAP_S, shield=True):
                    kill_group(process)
                    await process.wait()
    assert process.returncode is not None  # noqa: S101 - waited for above
    texts = [bytes(collected[i]).decode(errors="replace") for i in (0, 1)]
    return process.returncode, texts[0], texts[1]


async def stop(process: Process, policy: StopPolicy) -> None:
    """Interrupt the group once and wait; kill it only where *policy* says so.

    Returns with the process ended, or, for a policy without kill, still running after the grace.
    """
    _signal_group(process, signal.SIGINT)
    with anyio.move_on_after(policy.grace_s):
        await process.wait()
    if process.returncode is None and policy.kill:
        kill_group(process)
        with anyio.move_on_after(_REAP_S):
            await process.wait()
    if process.returncode is None:
        _log.error("process %d is still running %g s after SIGINT", process.pid, policy.grace_s)


def kill_group(process: Process) -> None:
    """SIGKILL whatever is left of the process's group."""
    _signal_group(process, signal.SIGKILL)


async def _wait(process: Process, policy: StopPolicy, interrupt: anyio.Event) -> None:
    """Wait for the end; on *interrupt* stop first. Without kill, wait on after the grace."""
    async with anyio.create_task_group() as tasks:

        async def interrupted() -> None:
            await interrupt.wait()
            await stop(process, policy)

        tasks.start_soon(interrupted)
        await process.wait()
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _reading(
    read: Callable[[int, int], Awaitable[object]], stdout: int, stderr: int
) -> AsyncIterator[None]:
    """Read both pipes while the block runs a process to its end, and then to their end.

    A stray in a session of its own may hold them for ever: then all that the process itself
    wrote is read, and the reader is cancelled.
    """
    async with anyio.create_task_group() as tasks:
        done = anyio.Event()

        async def read_all() -> None:
            await read(stdout, stderr)
            done.set()

        tasks.start_soon(read_all)
        yield
        with anyio.move_on_after(_LINGER_S):
            await done.wait()
        with anyio.move_on_after(10 * _LINGER_S):  # a stray may also go on to write
            while _unread_bytes(stdout) or _unread_bytes(stderr):  # noqa: ASYNC110 - no event
                await anyio.sleep(_LINGER_STEP_S)
        tasks.cancel_scope.cancel()


def _unread_bytes(descriptor: int) -> int:
    count = array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


async def _collect(descriptor: int, into: bytearray) -> None:
    os.set_blocking(descriptor, False)
    while True:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, 65536)
        if not data:
            return
        into += data[: _CAPTURE_LIMIT_BYTES - len(into)]


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@asynccontextmanager
async def _spawned(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]
) -> AsyncIterator[tuple[Process, int, int]]:
    """Start a process; yield it with the reading ends of its stdout and stderr."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        try:
            with anyio.CancelScope(shield=True):  # asyncio would SIGKILL a child half started
                process = await anyio.open_process(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out_write,
                    stderr=err_write,
                    cwd=cwd,
                    env=dict(env),
                    start_new_session=True,
                )
        except OSError as exc:
            raise StepError(f"cannot start {argv[0]}: {exc.strerror or exc}") from exc
        finally:
            os.close(out_write)
            os.close(err_write)
        yield process, out_read, err_read
    finally:
        os.close(out_read)
        os.close(err_read)
