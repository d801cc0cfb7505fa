"""The only module that starts processes.

:func:`run` starts the steps of a run through ``launcher.sh``: their output goes through FIFOs that
the launcher holds open, so that they outlive an agent that is killed, and ``attended.adopt`` takes
them up again. :func:`capture` runs short commands with plain pipes, :func:`serve` a program that is
to run until it is stopped. Each of these children gets a session of its own; the parent's terminal
sends it nothing. :func:`attached` runs a program on that terminal.
"""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import anyio

from tendril_rt.errors import StepError
from tendril_rt.runner.attended import Finished, Output, StopPolicy, StopRequest, attend
from tendril_rt.runner.launched import COOKIE, RunFolder
from tendril_rt.runner.watch import Watch, death

_LAUNCHER = Path(__file__).with_name("launcher.sh")
_LINGER_S = 1.0  # for a stray that holds the pipes after its process has ended
_REAP_S = 5.0  # to reap after SIGKILL: uninterruptible I/O may take a moment
_CAPTURE_LIMIT_BYTES = 1024 * 1024


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    run_dir: Path,
    output: Output,
    policy: StopPolicy,
    request: StopRequest,
) -> Finished:
    """Run *argv* to its end and return how it ended.

    When *request* says so, the process is stopped by *policy* and its true exit code returned.
    Cancellation: the same stop, shielded, then the cancellation goes on; so it takes as long as
    the policy allows.

    :param run_dir: a folder to be made for this process; it stays
    :raises StepError: the program cannot be started
    :raises ProcessLost: it ended, and nobody can say how
    """
    folder = RunFolder(run_dir)
    with ExitStack() as stack:
        try:
            program = _program(argv[0], cwd, env)
            folder.make()
            pipes = stack.enter_context(folder.opened())
            launcher = subprocess.Popen(  # noqa: ASYNC220 - fork and exec, as asyncio does it too
                ["/bin/sh", _LAUNCHER, run_dir, program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=cwd,
                env={**env, COOKIE: str(run_dir)},
                start_new_session=True,
            )
        except OSError as exc:
            raise StepError(f"cannot start {argv[0]}: {exc.strerror or exc}") from exc
        folder.was_seen_alive = True
        try:
            return await attend(Watch(folder, pipes, launcher.pid), output, policy, request)
        finally:
            if folder.is_over:  # the launcher waits for nothing else
                launcher.kill()
                with anyio.move_on_after(_REAP_S, shield=True):
                    await death(launcher.pid)
            launcher.poll()


async def capture(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
) -> tuple[int, str, str]:
    """Run a short command; return its exit code, stdout and stderr (1 MB of each at most).

    Cancellation: the process group is killed.

    :raises StepError: it cannot be started, or is not done after *timeout_s* seconds
    """
    collected = (bytearray(), bytearray())
    with _spawned(argv, cwd=cwd, env=env) as (process, pipes):
        try:
            with anyio.fail_after(timeout_s):
                async with anyio.create_task_group() as tasks:
                    collecting = anyio.Event()
                    tasks.start_soon(_collect_all, pipes, collected, collecting)
                    exit_code = await _end_of(process, strays=True)
                    with anyio.move_on_after(_LINGER_S):
                        await collecting.wait()
                    tasks.cancel_scope.cancel()
        except TimeoutError as exc:
            raise StepError(
                f"{argv[0]} was not done after {timeout_s:g} s and was stopped"
            ) from exc
        finally:
            if process.returncode is None:
                with anyio.move_on_after(_REAP_S, shield=True):
                    _signal_group(process, signal.SIGKILL)
                    await _end_of(process)
    texts = [bytes(raw).decode(errors="replace") for raw in collected]
    return exit_code, texts[0], texts[1]


async def serve(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, policy: StopPolicy
) -> int:
    """Run a program until it ends by itself, both streams appended to *log*; return its exit code.

    Cancellation: it is stopped by *policy*, shielded, then the cancellation goes on.

    :raises StepError: it cannot be started
    """
    with log.open("ab") as file:
        process = _started(argv, cwd=cwd, env=env, stdout=file.fileno(), stderr=file.fileno())
    try:
        return await _end_of(process, strays=True)
    finally:
        if process.returncode is None:
            _signal_group(process, signal.SIGINT)
            with anyio.move_on_after(policy.grace_s if policy.kill else float("inf"), shield=True):
                await death(process.pid)
            with anyio.move_on_after(_REAP_S, shield=True):
                _signal_group(process, signal.SIGKILL)
                await _end_of(process)


async def attached(argv: Sequence[str]) -> int:
    """Run a program on our own terminal, such as an editor, until it ends; return its exit code.

    Cancellation: it goes on; whoever sits at the terminal ends it.

    :raises StepError: it cannot be started
    """
    process = _on_our_terminal(argv)
    await death(process.pid)
    return process.wait()


def _on_our_terminal(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(list(argv))
    except OSError as exc:
        raise StepError(f"cannot start {argv[0]}: {exc.strerror or exc}") from exc


def _program(name: str, cwd: Path, env: Mapping[str, str]) -> str:
    """Return the path of a program, as a shell finds it.

    :raises OSError: there is none, or it may not be run
    """
    if "/" in name:
        path = cwd / name
        if not path.is_file():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not os.access(path, os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return str(path)
    found = shutil.which(name, path=env.get("PATH"))
    if found is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


async def _collect_all(pipes: Sequence[int], into: Sequence[bytearray], done: anyio.Event) -> None:
    async with anyio.create_task_group() as tasks:
        for pipe, collected in zip(pipes, into, strict=True):
            tasks.start_soon(_collect, pipe, collected)
    done.set()


async def _collect(descriptor: int, into: bytearray) -> None:
    os.set_blocking(descriptor, False)
    while True:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, 65536)
        if not data:
            return
        into += data[: _CAPTURE_LIMIT_BYTES - len(into)]


async def _end_of(process: "subprocess.Popen[bytes]", *, strays: bool = False) -> int:
    """Wait for the end of a child; return its exit code.

    Cancellation: safe, the child goes on.

    :param strays: kill what is left of its group, which still has its number before it is reaped
    """
    await death(process.pid)
    if strays:
        _signal_group(process, signal.SIGKILL)
    return process.wait()


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def _spawned(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]
) -> Iterator[tuple["subprocess.Popen[bytes]", tuple[int, int]]]:
    """Start a process; yield it with the reading ends of its stdout and stderr."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        try:
            process = _started(argv, cwd=cwd, env=env, stdout=out_write, stderr=err_write)
        finally:
            os.close(out_write)
            os.close(err_write)
        yield process, (out_read, err_read)
    finally:
        os.close(out_read)
        os.close(err_read)


def _started(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: int, stderr: int
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own.

    Not by way of asyncio, which goes round its loop several times before it says so: with other
    tasks at work that takes longer than a short git command.

    :raises StepError: it cannot be started
    """
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    except OSError as exc:
        raise StepError(f"cannot start {argv[0]}: {exc.strerror or exc}") from exc
