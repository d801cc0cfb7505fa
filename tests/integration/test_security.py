"""What docs/threat-model.md claims of the host that an agent shares with templates.

Programs that attack run as an ordinary user, since root may look at everything.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

SECRET = "tdl_0123456789abcdef0123456789abcdef"
NOBODY = 65534

#: A process of an ordinary user that holds SECRET; what it starts tries to read that.
HOLDER = """
import ctypes, os, subprocess, sys
from tendril_rt.cli import opaque
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({nobody}, {nobody}, {nobody})
    os.setresuid({nobody}, {nobody}, {nobody})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as after an ordinary start
if sys.argv[1] == "opaque":
    assert opaque.become_opaque()
found = subprocess.run(["/bin/cat", f"/proc/{{os.getpid()}}/" + sys.argv[2]], capture_output=True)
sys.stdout.buffer.write(found.stdout + found.stderr)
"""


def _looked_up(how: str, file: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HOLDER.format(nobody=NOBODY), how, file],
        env={**os.environ, "TENDRIL_API_TOKEN": SECRET},
        capture_output=True,
        timeout=30,
        check=True,
        cwd="/",
    )
    return done.stdout.decode(errors="replace")


def test_without_care_a_template_could_read_the_token_of_its_agent() -> None:
    assert SECRET in _looked_up("plain", "environ")
    assert "Permission denied" not in _looked_up("plain", "maps")


@pytest.mark.parametrize("file", ["environ", "maps", "mem", "auxv"])
def test_a_template_reads_neither_the_environment_nor_the_memory_of_its_agent(file: str) -> None:
    said = _looked_up("opaque", file)

    assert SECRET not in said
    assert "Permission denied" in said


def test_an_agent_is_opaque_before_it_reads_its_settings() -> None:
    code = "import ctypes, resource; from tendril_rt.cli.main import main; code = main(['run']); "
    code += "print(code, ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30
    )

    assert done.stdout == "2 0 (0, 0)\n", done.stderr


def _with_ancestor(program: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run *code* as a child of a shell, *program*, that was started with SECRET."""
    return subprocess.run(
        [program, "-c", '"$0" -c "$1"; exit', sys.executable, code],
        env={**os.environ, "TENDRIL_API_TOKEN": SECRET},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )


def test_an_agent_says_who_else_shows_its_token() -> None:
    code = "from tendril_rt.cli import logging, run; logging.configure('info', 'console', "
    code += f"secrets=['{SECRET}']); run._check_secrecy('{SECRET}', is_opaque=True)"

    said = _with_ancestor("/bin/sh", code).stderr

    assert "read TENDRIL_API_TOKEN from the environment of sh (pid " in said
    assert SECRET not in said


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_program_that_its_user_cannot_read_shows_nothing(open_folder: Path) -> None:
    init = open_folder / "init"
    shutil.copy("/bin/sleep", init)
    init.chmod(0o111)
    whom = NOBODY if os.geteuid() == 0 else None
    others: list[int] | None = [] if whom else None
    environment = {"TOKEN": SECRET}
    with subprocess.Popen(
        [init, "60"], env=environment, user=whom, group=whom, extra_groups=others
    ) as process:
        try:
            said = subprocess.run(
                ["/bin/cat", f"/proc/{process.pid}/environ"],
                capture_output=True,
                timeout=30,
                user=whom,
                group=whom,
                extra_groups=others,
            )
        finally:
            process.kill()

    assert SECRET.encode() not in said.stdout
    assert b"Permission denied" in said.stderr


def test_an_opaque_process_still_sees_itself_and_its_children() -> None:
    code = """
import ctypes, os, subprocess
from pathlib import Path
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from tendril_rt.cli import opaque
from tendril_rt.runner.launched import COOKIE, RunFolder
from tendril_rt.runner.procfs import machine
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({nobody}, {nobody}, {nobody})
    os.setresuid({nobody}, {nobody}, {nobody})
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
assert opaque.become_opaque()
registry = CollectorRegistry()
ProcessCollector(registry=registry)
shown = generate_latest(registry).decode()
assert "process_open_fds " in shown and "process_resident_memory_bytes " in shown, shown
assert "pid:[" in machine()
folder = RunFolder(Path("/run-folder"))
child = subprocess.Popen(["/bin/sleep", "60"], env={{COOKIE: "/run-folder"}})
while b"sleep" not in Path(f"/proc/{{child.pid}}/cmdline").read_bytes():
    pass
assert folder.has_living
folder.kill_all()
print(child.wait())
"""
    done = subprocess.run(
        [sys.executable, "-c", code.format(nobody=NOBODY)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=30,
        cwd="/",
    )

    assert done.stdout == "-9\n", done.stderr
