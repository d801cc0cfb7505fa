"""Starting and stopping real processes: ends, signals, output, and what is left behind."""

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tendril_rt.errors import StepError
from tendril_rt.model import StreamType
from tendril_rt.runner import process
from tendril_rt.runner.attended import Finished, StopPolicy, StopRequest
from tendril_rt.runner.launched import COOKIE

from .runner_support import (
    Recorded,
    is_running,
    kill,
    open_descriptors,
    recording,
    until,
    zombies,
)

pytestmark = pytest.mark.integration

_PATIENT = StopPolicy(grace_s=20.0, kill=True)  # never reached by an obedient child
_SHORT = StopPolicy(grace_s=0.3, kill=True)
_NEVER_KILL = StopPolicy(grace_s=0.3, kill=False)
_PROMPT_S = 5.0  # far below what a child would take that nobody stops
_STILL_RUNNING = "still running"  # what the log says when a grace is over
_ENV = {"PATH": os.environ["PATH"]}

_HELPERS = """
import os, signal, sys, time
log = os.open("signals", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(word): os.write(log, f"{word}\\n".encode())
def say(*words): print(*words, flush=True)
def wait_for(name):
    while not os.path.exists(name): time.sleep(0.01)
"""


def _python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", _HELPERS + textwrap.dedent(script)]


_FAMILY = _python("""
    grandchild = os.fork()
    name = "child" if grandchild else "grandchild"
    def interrupted(number, frame):
        note(name)
        if grandchild: os.wait()
        sys.exit(3)
    signal.signal(signal.SIGINT, interrupted)
    say(name, os.getpid())
    while True: time.sleep(60)
""")
_STUBBORN_GRANDCHILD = _python("""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.fork() == 0:
        say("grandchild", os.getpid())
        while True: time.sleep(60)
    signal.signal(signal.SIGINT, lambda *_: note("child"))
    say("child", os.getpid())
    os.wait()
""")
_COUNTS_SIGNALS = _python("""
    signal.signal(signal.SIGINT, lambda *_: note("SIGINT"))
    say("child", os.getpid())
    wait_for("finish")
    sys.exit(42)
""")
_PRINTS_WHEN_INTERRUPTED = _python("""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a handler may not print
    say("child", os.getpid())
    signal.sigwait([signal.SIGINT])
    for stream in (sys.stdout, sys.stderr):
        stream.write("x" * 999_999 + "\\n")
        stream.flush()
    note("all printed")
""")


def _leaves_a_stray(prepare: str) -> list[str]:
    return _python(f"""
        if os.fork() == 0:
            {prepare}
            say("stray", os.getpid())
            open("finish", "w").close()
            time.sleep(8)
            os._exit(0)
        wait_for("finish")
        sys.exit(5)
    """)


_STRAYS = pytest.mark.parametrize(
    "prepare", ["pass", "os.setsid()"], ids=["of-the-group", "of-a-session-of-its-own"]
)


@dataclass(frozen=True)
class Bench:
    """Runs children in a folder of the test's own."""

    folder: Path
    output: Recorded
    request: StopRequest

    @property
    def interrupt(self) -> anyio.Event:
        return self.request.interrupt

    async def run(self, argv: Sequence[str], policy: StopPolicy = _PATIENT) -> Finished:
        return await process.run(
            argv,
            cwd=self.folder,
            env=_ENV,
            run_dir=self.new_run_dir(),
            output=self.output.reader,
            policy=policy,
            request=self.request,
        )

    def new_run_dir(self) -> Path:
        runs = self.folder.parent / "runs"
        runs.mkdir(exist_ok=True)
        return runs / str(len(list(runs.iterdir())))

    async def pid_of(self, name: str) -> int:
        """Wait until the process *name* said that it is ready."""
        await until(lambda: self.output.words(f"{name} "))
        return int(self.output.words(f"{name} ")[0])

    async def capture(self, argv: Sequence[str], timeout_s: float = 20.0) -> tuple[int, str, str]:
        return await process.capture(argv, cwd=self.folder, env=_ENV, timeout_s=timeout_s)

    @property
    def signals(self) -> list[str]:
        """What the children noted, in order."""
        return (self.folder / "signals").read_text().split()

    def finish(self) -> None:
        """Let a child go that waits for it."""
        (self.folder / "finish").touch()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "work"
    folder.mkdir()
    with recording(tmp_path / "spool") as output:
        yield Bench(folder, output, StopRequest())


async def _all_gone(*pids: int) -> None:
    """Wait for the processes' ends: a signal that was sent takes a moment to arrive."""
    await until(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.parametrize("code", [0, 1, 7, 255])
async def test_the_exit_code_is_the_processs_own(bench: Bench, code: int) -> None:
    assert (await bench.run(["sh", "-c", f"exit {code}"])).exit_code == code


async def test_a_process_that_a_signal_ended_has_a_negative_exit_code(bench: Bench) -> None:
    assert (await bench.run(["sh", "-c", "kill -TERM $$"])).exit_code == -15


async def test_stdout_and_stderr_arrive_whole_and_apart(bench: Bench) -> None:
    await bench.run(["sh", "-c", "seq 20000; seq 3 >&2"])

    assert bench.output.stdout == "".join(f"{n}\n" for n in range(1, 20001))
    assert bench.output.text(StreamType.STDERR) == "1\n2\n3\n"


async def test_the_stderr_tail_is_the_end_of_stderr_alone(bench: Bench) -> None:
    done = await bench.run(["sh", "-c", "seq 100000 >&2; echo 'the reason' >&2; echo on stdout"])

    assert done.stderr_tail.endswith(b"99999\n100000\nthe reason\n")
    assert len(done.stderr_tail) <= 4096
    assert b"stdout" not in done.stderr_tail


async def test_a_child_has_no_input_and_a_session_of_its_own(bench: Bench) -> None:
    ask = "say(sys.stdin.read() == '', os.getsid(0) == os.getpid())"

    assert (await bench.run(_python(ask))).exit_code == 0
    assert bench.output.stdout == "True True\n"


async def test_a_child_sees_exactly_the_environment_it_is_given(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENDRIL_API_TOKEN", "secret")

    await bench.run(["env"])

    seen = dict(line.split("=", 1) for line in bench.output.stdout.splitlines())
    run_dir = seen.pop(COOKIE)
    shell = {name: seen.pop(name) for name in ("PWD", "OLDPWD") if name in seen}
    assert seen == _ENV
    assert run_dir == str(bench.folder.parent / "runs" / "0")
    assert set(shell.values()) <= {str(bench.folder)}, "what sh adds is no secret"


async def test_an_interrupt_reaches_the_whole_group(bench: Bench) -> None:
    results: list[Finished] = []
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            results.append(await bench.run(_FAMILY))

        tasks.start_soon(run)
        pids = [await bench.pid_of(name) for name in ("child", "grandchild")]
        bench.interrupt.set()

    assert sorted(bench.signals) == ["child", "grandchild"]
    assert results[0].exit_code == 3
    await _all_gone(*pids)


async def test_a_grandchild_that_ignores_the_interrupt_is_killed_after_the_grace(
    bench: Bench,
) -> None:
    results: list[Finished] = []
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            results.append(await bench.run(_STUBBORN_GRANDCHILD, _SHORT))

        tasks.start_soon(run)
        pids = [await bench.pid_of(name) for name in ("child", "grandchild")]
        interrupted_at = anyio.current_time()
        bench.interrupt.set()
    took_s = anyio.current_time() - interrupted_at

    assert bench.signals == ["child"], "SIGINT came first"
    assert results[0].exit_code == -9
    assert _SHORT.grace_s <= took_s < _PROMPT_S
    await _all_gone(*pids)


async def test_without_kill_a_process_is_left_to_end_by_itself(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[Finished] = []
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            results.append(await bench.run(_COUNTS_SIGNALS, _NEVER_KILL))

        tasks.start_soon(run)
        pid = await bench.pid_of("child")
        bench.interrupt.set()
        await until(lambda: _STILL_RUNNING in caplog.text)  # the grace is over
        assert is_running(pid)
        assert not results
        bench.finish()

    assert results[0].exit_code == 42
    assert bench.signals == ["SIGINT"], "a second one makes Terraform drop its state"


async def test_an_interrupt_before_the_start_ends_the_process_at_once(bench: Bench) -> None:
    bench.interrupt.set()

    done = await bench.run(["sleep", "60"])

    assert done.exit_code == -2
    assert done.duration_s < _PROMPT_S


@pytest.mark.parametrize("how", ["interrupt", "cancellation"])
async def test_a_child_that_prints_much_after_its_interrupt_is_read_whole(
    bench: Bench, how: str
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, _PRINTS_WHEN_INTERRUPTED)
        await bench.pid_of("child")
        if how == "interrupt":
            bench.interrupt.set()
        else:
            tasks.cancel_scope.cancel()

    assert bench.signals == ["all", "printed"]
    assert bench.output.stdout.count("x") == 999_999
    assert bench.output.text(StreamType.STDERR).count("x") == 999_999


async def test_a_cancellation_stops_the_child_by_its_policy_and_goes_on(bench: Bench) -> None:
    went_on = False
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            nonlocal went_on
            await bench.run(_FAMILY)
            went_on = True

        tasks.start_soon(run)
        pids = [await bench.pid_of(name) for name in ("child", "grandchild")]
        tasks.cancel_scope.cancel()

    assert sorted(bench.signals) == ["child", "grandchild"], "stopped, not killed"
    await _all_gone(*pids)
    assert not went_on


async def test_a_cancellation_kills_a_stubborn_child_after_the_grace(bench: Bench) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, _STUBBORN_GRANDCHILD, _SHORT)
        pids = [await bench.pid_of(name) for name in ("child", "grandchild")]
        tasks.cancel_scope.cancel()

    assert bench.signals == ["child"]
    await _all_gone(*pids)


async def test_a_cancellation_without_kill_waits_for_the_process_to_end(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    ended = anyio.Event()
    caller = anyio.CancelScope()

    async def run() -> None:
        with caller:
            await bench.run(_COUNTS_SIGNALS, _NEVER_KILL)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        pid = await bench.pid_of("child")
        caller.cancel()
        await until(lambda: _STILL_RUNNING in caplog.text)
        assert is_running(pid)
        assert not ended.is_set()
        bench.finish()

    assert caller.cancelled_caught
    assert bench.signals == ["SIGINT"]
    await _all_gone(pid)
    assert not zombies()


async def test_a_cancellation_after_an_interrupt_sends_no_second_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.run, _COUNTS_SIGNALS, _NEVER_KILL)
        await bench.pid_of("child")
        bench.interrupt.set()
        await until(lambda: (bench.folder / "signals").exists() and bench.signals)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await until(lambda: _STILL_RUNNING in caplog.text)  # this is the later of the two stops
            bench.finish()

    assert bench.signals == ["SIGINT"], "a second one makes Terraform drop its state"


async def test_a_cancelled_run_does_not_wait_for_a_stray_after_its_process_has_ended(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    script = _python("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.fork() == 0:
            say("stray", os.getpid())
            while True: time.sleep(60)
        say("child", os.getpid())
        wait_for("finish")
    """)
    ended = anyio.Event()
    caller = anyio.CancelScope()

    async def run() -> None:
        with caller:
            await bench.run(script, _NEVER_KILL)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        child, stray = await bench.pid_of("child"), await bench.pid_of("stray")
        caller.cancel()
        await until(lambda: _STILL_RUNNING in caplog.text)
        bench.finish()
        await _all_gone(child)
        with anyio.move_on_after(_PROMPT_S):
            await ended.wait()
        in_time = ended.is_set()
        kill(stray)

    assert in_time, "the stray held the pipe and with it the agent"


@_STRAYS
async def test_a_stray_that_holds_the_pipe_does_not_defer_the_end(
    bench: Bench, prepare: str
) -> None:
    done = await bench.run(_leaves_a_stray(prepare))
    stray = await bench.pid_of("stray")
    kill(stray)

    assert done.exit_code == 5
    assert done.duration_s < _PROMPT_S


async def test_a_stray_of_the_group_is_gone_when_the_process_has_ended(bench: Bench) -> None:
    await bench.run(["sh", "-c", "sleep 60 & echo stray $!"])

    await _all_gone(await bench.pid_of("stray"))


async def test_a_program_that_does_not_exist_is_named(bench: Bench) -> None:
    with pytest.raises(StepError, match="cannot start no-such-program: No such file"):
        await bench.run(["no-such-program", "apply"])
    with pytest.raises(StepError, match="cannot start no-such-program: No such file"):
        await bench.capture(["no-such-program", "version"])


async def test_a_program_that_may_not_be_run_is_named(bench: Bench) -> None:
    (bench.folder / "terraform").write_text("#!/bin/sh\n")

    with pytest.raises(StepError, match=r"cannot start \./terraform: Permission denied"):
        await bench.run(["./terraform"])


async def test_capture_returns_the_code_and_both_streams(bench: Bench) -> None:
    answer = await bench.capture(["sh", "-c", "echo out; echo err >&2; exit 4"])

    assert answer == (4, "out\n", "err\n")


async def test_capture_keeps_the_first_megabyte_and_reads_on(bench: Bench) -> None:
    script = "import sys; sys.stdout.write('a' * 3_000_000); sys.stderr.write('read to the end')"

    code, stdout, stderr = await bench.capture([sys.executable, "-I", "-c", script])

    assert (code, stderr) == (0, "read to the end")
    assert stdout == "a" * 1024 * 1024


async def test_capture_that_takes_too_long_is_killed_with_its_children(bench: Bench) -> None:
    script = _python("""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        pid = os.fork()
        if pid:
            with open("pids.tmp", "w") as file: file.write(f"{os.getpid()} {pid}")
            os.rename("pids.tmp", "pids")
        while True: time.sleep(60)
    """)

    with pytest.raises(StepError, match=r"was not done after 1\.5 s and was stopped"):
        await bench.capture(script, timeout_s=1.5)

    pids = [int(pid) for pid in (bench.folder / "pids").read_text().split()]
    await _all_gone(*pids)


async def test_a_cancelled_capture_kills_the_group(bench: Bench) -> None:
    script = ["sh", "-c", "sleep 60 & echo $$ $! > pids.tmp; mv pids.tmp pids; wait"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.capture, script)
        await until((bench.folder / "pids").exists)
        tasks.cancel_scope.cancel()

    pids = [int(pid) for pid in (bench.folder / "pids").read_text().split()]
    await _all_gone(*pids)


@_STRAYS
async def test_capture_does_not_wait_for_a_stray_that_holds_the_pipe(
    bench: Bench, prepare: str
) -> None:
    begun_at = anyio.current_time()

    code, stdout, _ = await bench.capture(_leaves_a_stray(prepare))
    took_s = anyio.current_time() - begun_at
    kill(int(stdout.removeprefix("stray ")))

    assert code == 5
    assert took_s < _PROMPT_S


async def _cancelled_run(bench: Bench) -> None:
    with anyio.move_on_after(0.001):
        await bench.run(["sleep", "60"])


async def test_fifty_runs_leave_no_descriptor_and_no_zombie(bench: Bench) -> None:
    await bench.run(["sh", "-c", "echo one line"])  # what the loop and the spool open once
    before = open_descriptors()

    for _ in range(50):
        await bench.run(["sh", "-c", "echo one line"])
        await bench.capture(["true"])
        await _cancelled_run(bench)
        with pytest.raises(StepError):
            await bench.run(["no-such-program"])

    assert open_descriptors() == before
    await until(lambda: not zombies())


class _FailingReader:
    """Reads one line, then fails."""

    stderr_tail = b""

    def __init__(self) -> None:
        self.pid = 0

    async def drain(self, stdout: int, stderr: int, ended: anyio.Event) -> None:
        await anyio.wait_readable(stdout)
        self.pid = int(os.read(stdout, 100).split()[1])
        raise OSError("the reader failed")


async def test_a_reader_that_fails_stops_the_process_it_can_no_longer_read(tmp_path: Path) -> None:
    reader = _FailingReader()
    with anyio.fail_after(_PROMPT_S), pytest.raises(ExceptionGroup) as caught:
        await process.run(
            _FAMILY,
            cwd=tmp_path,
            env=_ENV,
            run_dir=tmp_path / "run",
            output=reader,
            policy=_PATIENT,
            request=StopRequest(),
        )
    assert caught.group_contains(OSError, match="the reader failed")
    assert not is_running(reader.pid)
    assert (tmp_path / "signals").read_text().split() != []
