"""Launched processes outlive their agent: found again, read on, stopped once, never orphaned."""

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from tendril_rt.errors import ProcessLost
from tendril_rt.runner import process
from tendril_rt.runner.attended import (
    Finished,
    Output,
    StopPolicy,
    StopRequest,
    adopt,
    end_leftover,
)
from tendril_rt.runner.launched import (
    COOKIE,
    Ended,
    RunFolder,
    Running,
    Vanished,
    find,
)
from tendril_rt.runner.procfs import Identity

from .runner_support import Recorded, is_running, kill, recording, until

pytestmark = pytest.mark.integration

_PATIENT = StopPolicy(grace_s=20.0, kill=False)
_ENV = {"PATH": os.environ["PATH"]}
_PROMPT_S = 10.0

_HELPERS = """
import os, signal, sys, time
os.set_inheritable(1, True)
log = os.open("signals", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def note(word): os.write(log, f"{word}\\n".encode())
def say(*words): print(*words, flush=True)
def wait_for(name):
    while not os.path.exists(name): time.sleep(0.01)
signal.signal(signal.SIGINT, lambda *_: note("SIGINT"))
say("child", os.getpid())
"""
_PRINTS_ON = """
wait_for("go")
for n in range(20000): print("line", n)
print("the end", file=sys.stderr)
sys.exit(7)
"""
_WAITS = 'wait_for("finish"); sys.exit(7)'


def _python(script: str) -> list[str]:
    return [sys.executable, "-I", "-c", _HELPERS + script]


@dataclass
class Scene:
    """A folder in which an agent launches a process, and is gone before it ends."""

    folder: Path
    output: Recorded
    request: StopRequest = field(default_factory=StopRequest)

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def first(self) -> str:
        """What the agent that is gone had read."""
        return (self.folder / "first").read_text()

    @property
    def child(self) -> int:
        return int(self.first.split()[1])

    @property
    def signals(self) -> list[str]:
        return (self.folder / "signals").read_text().split()

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    @contextmanager
    def agent(self, script: str, grace_s: float = 20.0) -> Iterator[subprocess.Popen[bytes]]:
        """Let an agent launch *script*; SIGKILL the agent when the block ends."""
        running = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.integration.doomed_agent"),
                *(str(self.run_dir), str(grace_s), *_python(script)),
            ]
        )
        try:
            yield running
        finally:
            running.kill()
            running.wait()

    async def abandoned(self, script: str) -> None:
        """Return with *script* running and its agent killed."""
        with self.agent(script):
            await until((self.folder / "first").exists, within_s=_PROMPT_S * 3)

    async def adopted(self, policy: StopPolicy = _PATIENT) -> Finished:
        return await adopt(self.run_dir, self.output.reader, policy, self.request)

    async def launched(self, script: str, policy: StopPolicy = _PATIENT) -> Finished:
        return await process.run(
            _python(script),
            cwd=self.folder,
            env=_ENV,
            run_dir=self.run_dir,
            output=self.output.reader,
            policy=policy,
            request=self.request,
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    folder = tmp_path / "work"
    folder.mkdir()
    with recording(tmp_path / "spool") as output:
        yield Scene(folder, output)
    RunFolder(folder / "run").kill_all()
    RunFolder(folder / "run").release()


async def test_a_process_outlives_its_agent_and_the_next_one_reads_on(scene: Scene) -> None:
    await scene.abandoned(_PRINTS_ON)
    assert find(scene.run_dir) == Running(scene.child)

    scene.touch("go")
    with anyio.fail_after(_PROMPT_S):
        done = await scene.adopted()

    assert done.exit_code == 7
    assert done.stderr_tail == b"the end\n"
    assert scene.output.stdout == "".join(f"line {n}\n" for n in range(20000))
    assert find(scene.run_dir) == Ended(7)


async def test_a_process_that_ended_without_an_agent_is_read_whole(scene: Scene) -> None:
    await scene.abandoned(_PRINTS_ON)
    scene.touch("go")
    await until(lambda: find(scene.run_dir) == Ended(7))

    done = await scene.adopted()

    assert done.exit_code == 7
    assert scene.output.stdout == "".join(f"line {n}\n" for n in range(20000))


async def test_a_process_waits_with_its_output_while_no_agent_is_there(scene: Scene) -> None:
    await scene.abandoned('print("x" * 3_000_000); sys.stdout.flush(); note("all printed")')
    assert isinstance(find(scene.run_dir), Running)

    done = await scene.adopted()

    assert done.exit_code == 0
    assert scene.output.stdout == "x" * 3_000_000 + "\n"


async def test_the_launcher_goes_when_the_output_is_read(scene: Scene) -> None:
    await scene.abandoned(_WAITS)
    launcher = RunFolder(scene.run_dir).launcher
    assert launcher is not None
    scene.touch("finish")
    await until(lambda: find(scene.run_dir) == Ended(7))
    assert launcher.is_alive, "it holds what nobody has read"

    await scene.adopted()

    await until(lambda: not launcher.is_alive)


async def test_an_exit_code_that_the_disk_refuses_is_heard(scene: Scene) -> None:
    done: list[Finished] = []
    async with anyio.create_task_group() as tasks:

        async def launch() -> None:
            done.append(await scene.launched(_WAITS))

        tasks.start_soon(launch)
        await until(lambda: scene.output.words("child "))
        (scene.run_dir / "exit_code").mkdir()  # no file can be written there
        scene.touch("finish")

    assert done[0].exit_code == 7


async def test_a_process_whose_launcher_was_killed_is_waited_for_all_the_same(
    scene: Scene,
) -> None:
    await scene.abandoned(_PRINTS_ON)
    launcher = RunFolder(scene.run_dir).launcher
    assert launcher is not None
    os.kill(launcher.pid, signal.SIGKILL)
    assert find(scene.run_dir) == Running(scene.child)

    scene.touch("go")
    with anyio.fail_after(_PROMPT_S), pytest.raises(ProcessLost, match="left no exit code"):
        await scene.adopted()

    assert not is_running(scene.child)
    assert scene.output.stdout.endswith("line 19999\n")
    assert find(scene.run_dir) == Vanished()


async def test_a_launcher_that_is_killed_in_our_own_run_does_not_hang_it(scene: Scene) -> None:
    async with anyio.create_task_group() as tasks:

        async def launch() -> None:
            with anyio.fail_after(_PROMPT_S), pytest.raises(ProcessLost):
                await scene.launched(_WAITS)

        tasks.start_soon(launch)
        await until(lambda: scene.output.words("child "))
        launcher = RunFolder(scene.run_dir).launcher
        assert launcher is not None
        os.kill(launcher.pid, signal.SIGKILL)
        scene.touch("finish")


async def test_all_of_it_works_where_the_kernel_has_no_pidfds(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    await scene.abandoned(_WAITS)
    scene.touch("finish")

    assert (await scene.adopted()).exit_code == 7


async def test_a_process_that_is_killed_alone_ended_by_that_signal(scene: Scene) -> None:
    await scene.abandoned(_WAITS)
    kill(scene.child)

    assert (await scene.adopted()).exit_code == -9


def test_an_identity_is_pid_and_start_time() -> None:
    stat_line = Path("/proc/self/stat").read_text()
    own = Identity.parse(stat_line)

    assert own is not None
    assert (own.pid, own.is_alive) == (os.getpid(), True)
    assert not Identity(own.pid, own.started + 1).is_alive, "the number was given out again"
    assert Identity.parse("4150 (a (odd) name) R 1 2\n") is None
    assert Identity.parse(stat_line.removesuffix("\n")) is None


@pytest.mark.parametrize("ahead_s", [-86400.0, 86400.0])
async def test_nothing_ages_by_a_wall_clock_that_is_set(scene: Scene, ahead_s: float) -> None:
    """Its files keep the times of the clock as it was before."""
    await scene.abandoned(_WAITS)
    begun = scene.run_dir / "process"
    written_at = begun.stat().st_mtime - ahead_s
    os.utime(begun, (written_at, written_at))

    assert 0.0 <= RunFolder(scene.run_dir).ran_s() < 600.0
    scene.touch("finish")
    done = await scene.adopted(replace(_PATIENT, timeout_s=3600.0))
    assert (done.exit_code, done.timed_out) == (7, False)
    assert 0.0 <= done.duration_s < 600.0


async def test_what_happened_on_another_boot_has_vanished(scene: Scene) -> None:
    await scene.abandoned(_WAITS)
    machine = scene.run_dir / "machine"
    before = machine.read_text()
    machine.write_text("another boot\n")

    assert find(scene.run_dir) == Vanished()

    machine.write_text(before)
    assert isinstance(find(scene.run_dir), Running)


async def test_a_folder_that_was_never_used_holds_nothing(tmp_path: Path) -> None:
    assert find(tmp_path) == Vanished()
    with pytest.raises(ProcessLost, match="nothing was launched"):
        await adopt(tmp_path / "missing", _reader(tmp_path), _PATIENT, StopRequest())


def _reader(tmp_path: Path) -> Output:
    with recording(tmp_path / "unused") as output:
        return output.reader


async def test_an_adopted_process_is_not_interrupted_twice(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    with scene.agent(_WAITS):
        await until((scene.folder / "first").exists, within_s=_PROMPT_S * 3)
        scene.touch("interrupt")
        await until((scene.run_dir / "interrupted").exists)
        await until(lambda: scene.signals)
    scene.request.interrupt.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.adopted, StopPolicy(grace_s=0.3, kill=False))
        await until(lambda: "still running" in caplog.text)  # the grace of this stop is over
        assert scene.signals == ["SIGINT"]
        scene.touch("finish")


async def test_force_is_a_second_interrupt_and_then_the_end(scene: Scene) -> None:
    done: list[Finished] = []
    policy = StopPolicy(grace_s=20.0, kill=False, force_grace_s=0.5)
    async with anyio.create_task_group() as tasks:

        async def launch() -> None:
            done.append(await scene.launched(_WAITS, policy))

        tasks.start_soon(launch)
        await until(lambda: scene.output.words("child "))
        scene.request.interrupt.set()
        await until((scene.run_dir / "interrupted").exists)
        await until(lambda: scene.signals == ["SIGINT"])
        assert done == []
        with anyio.fail_after(_PROMPT_S):
            scene.request.force.set()
            await until(lambda: done)

    assert scene.signals == ["SIGINT", "SIGINT"]
    assert done[0].exit_code == -9


async def test_force_from_the_start_gives_one_chance_first(scene: Scene) -> None:
    done: list[Finished] = []
    async with anyio.create_task_group() as tasks:

        async def launch() -> None:
            done.append(await scene.launched('wait_for("signals2"); sys.exit(7)'))

        tasks.start_soon(launch)
        await until(lambda: scene.output.words("child "))
        scene.request.interrupt.set()
        scene.request.force.set()
        await until((scene.run_dir / "interrupted").exists)
        await until(lambda: scene.signals)
        scene.touch("signals2")

    assert scene.signals == ["SIGINT"]
    assert done[0].exit_code == 7


async def test_a_process_that_takes_too_long_is_interrupted_once(scene: Scene) -> None:
    script = "signal.signal(signal.SIGINT, signal.SIG_DFL); signal.pause()"

    done = await scene.launched(script, StopPolicy(grace_s=20.0, kill=False, timeout_s=0.4))

    assert (done.exit_code, done.timed_out) == (-2, True)
    assert 0.4 <= done.duration_s < _PROMPT_S


async def test_nothing_but_its_three_streams_reaches_a_process(scene: Scene) -> None:
    await scene.launched('say(sorted(os.listdir("/proc/self/fd")))')

    (seen,) = [line for line in scene.output.stdout.splitlines() if line.startswith("[")]
    # Beside them the two that the script itself opened: its log, and the folder that it lists.
    assert seen == "['0', '1', '2', '3', '4']"


async def test_the_folder_and_its_pipes_are_the_agents_alone(scene: Scene) -> None:
    umask = os.umask(0)
    try:
        await scene.launched("")
    finally:
        os.umask(umask)

    assert stat.S_IMODE(scene.run_dir.stat().st_mode) == 0o700
    fifos = [path for path in scene.run_dir.iterdir() if path.is_fifo()]
    assert {path.name for path in fifos} == {"stdout", "stderr", "events"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in fifos} == {0o600}


_STRAYS = {
    "ignores every signal": "",
    "in a session of its own": "os.setsid()",
    "forked twice": "os.setsid(); os.fork() and os._exit(0)",
    "without the environment": 'os.execve("/bin/sleep", ["sleep", "60"], {})',
}


@pytest.mark.parametrize("prepare", _STRAYS.values(), ids=_STRAYS.keys())
async def test_nothing_that_a_process_started_outlives_it(scene: Scene, prepare: str) -> None:
    script = f"""
if os.fork() == 0:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    {prepare or "pass"}
    with open("stray.new", "w") as file: file.write(str(os.getpid()))
    os.rename("stray.new", "stray")
    while True: time.sleep(60)
"""
    if "execve" in prepare:
        script = script.replace(prepare, "").replace(
            "    while True: time.sleep(60)", f"    {prepare}"
        )
    with anyio.fail_after(_PROMPT_S):
        done = await scene.launched(script + 'wait_for("stray")')

    stray = int((scene.folder / "stray").read_text())
    assert done.exit_code == 0
    await until(lambda: not is_running(stray))  # SIGKILL was sent; dying takes a moment


async def test_a_leftover_is_stopped_and_what_has_ended_is_left_alone(scene: Scene) -> None:
    await scene.abandoned("print('x' * 3_000_000)\n" + _WAITS)

    await end_leftover(scene.run_dir, StopPolicy(grace_s=0.2, kill=True))

    assert scene.signals == ["SIGINT"]
    await until(lambda: not is_running(scene.child))
    assert find(scene.run_dir) == Ended(-9)
    await end_leftover(scene.run_dir, StopPolicy(grace_s=0.2, kill=True))
    await end_leftover(scene.folder / "missing", StopPolicy(grace_s=0.2, kill=True))


def test_the_cookie_is_no_setting_of_the_agent() -> None:
    assert not COOKIE.startswith(("TENDRIL_", "SUPABASE_", "TF_"))
