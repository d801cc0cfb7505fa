"""What a built binary does before its first command: its environment, its unpack folder."""

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tendril_rt import __version__
from tendril_rt.cli import binary, unpacked
from tendril_rt.errors import LocalError

# --- the environment ------------------------------------------------------------------------------


def test_what_pyinstaller_left_for_itself_is_taken_out() -> None:
    environ = {
        "LD_LIBRARY_PATH": "/tmp/_MEIa1b2c3",
        "_PYI_APPLICATION_HOME_DIR": "/tmp/_MEIa1b2c3",
        "_PYI_ARCHIVE_FILE": "/opt/tendril",
        "_PYI_PARENT_PROCESS_LEVEL": "1",
        "PATH": "/usr/bin",
        "SSL_CERT_DIR": "/etc/ssl/certs",
    }
    binary.tidy(environ)
    assert environ == {"PATH": "/usr/bin", "SSL_CERT_DIR": "/etc/ssl/certs"}


def test_what_the_user_had_said_of_libraries_holds_again() -> None:
    environ = {
        "LD_LIBRARY_PATH": "/tmp/_MEIa1b2c3:/opt/lib",
        "LD_LIBRARY_PATH_ORIG": "/opt/lib",
        "SSL_CERT_FILE": "/etc/authorities.pem",
    }
    binary.tidy(environ)
    assert environ == {"LD_LIBRARY_PATH": "/opt/lib", "SSL_CERT_FILE": "/etc/authorities.pem"}


def test_the_trust_store_of_this_system_is_named_unless_somebody_named_one(tmp_path: Path) -> None:
    store = tmp_path / "store.pem"
    store.touch()
    stores = [str(tmp_path / "of-another-distribution.pem"), str(store)]
    environ: dict[str, str] = {}
    binary.tidy(environ, stores)
    assert environ == {"SSL_CERT_FILE": str(store)}

    without: dict[str, str] = {}
    binary.tidy(without, stores[:1])
    assert without == {}


# --- one program, two names -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (["/usr/bin/tendril", "--version"], "tendril"),
        (["/usr/bin/tendril", "grape", "--version"], "grape"),
        (["grape", "--version"], "grape"),
    ],
)
def test_it_answers_by_its_name_and_by_its_first_word(
    argv: list[str],
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as ended:
        binary.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{answer} {__version__}\n"


# --- the unpack folder ----------------------------------------------------------------------------


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """What ``/tmp`` is to the bootloader."""
    return tmp_path


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    (folder / "inside").mkdir(parents=True)
    return folder


@pytest.fixture
def in_use(parent: Path) -> Iterator[Path]:
    folder = _folder(parent, "_MEIinuse")
    with unpacked.claim(folder):
        yield folder


def test_what_a_killed_binary_left_is_removed_and_nothing_else(parent: Path, in_use: Path) -> None:
    left = _folder(parent, "_MEIleft")
    unpacked.claim(left).close()  # its lock is gone with its process
    starting = _folder(parent, "_MEIstarting")  # unpacked, not claimed yet
    other = _folder(parent, "_MEIother")  # of another program
    unrelated = _folder(parent, "unrelated")
    unpacked.claim(unrelated).close()
    unpacked.sweep(parent)
    assert sorted(parent.iterdir()) == sorted([in_use, starting, other, unrelated])


def test_a_link_in_the_place_of_a_folder_is_not_followed(parent: Path) -> None:
    elsewhere = _folder(parent, "elsewhere")
    unpacked.claim(elsewhere).close()
    (parent / "_MEIlink").symlink_to(elsewhere)
    unpacked.sweep(parent)
    assert (elsewhere / "inside").is_dir()


def test_a_mark_that_is_none_does_no_harm(parent: Path) -> None:
    folder = _folder(parent, "_MEIodd")
    os.mkfifo(folder / unpacked.MARK)
    unpacked.sweep(parent)
    link = _folder(parent, "_MEIlinked")
    (link / unpacked.MARK).symlink_to("/etc/passwd")
    unpacked.sweep(parent)
    assert link.is_dir()


def test_the_mark_is_never_seen_without_its_lock(parent: Path) -> None:
    folder = _folder(parent, "_MEIa")
    with (
        unpacked.claim(folder),
        (folder / unpacked.MARK).open() as mark,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert {path.name for path in folder.iterdir()} == {"inside", unpacked.MARK}


_ORPHAN = """
import os, signal, sys
from tendril_rt.cli import unpacked
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    try:
        unpacked.die_with_the_bootloader()
    finally:
        os.write(ready[1], b"x")
    signal.pause()
os.read(ready[0], 1)
print(child, flush=True)
sys.stdin.read()
"""


def test_who_kills_the_bootloader_kills_the_program() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        watched = os.pidfd_open(child)
        try:
            parent.kill()
            parent.wait()
            assert select.select([watched], [], [], 10)[0], "the child lives on"
        finally:
            os.close(watched)


def test_a_program_whose_bootloader_is_gone_does_not_begin() -> None:
    code = "from tendril_rt.cli import unpacked; import os; os.getppid = lambda: 1 << 22;"
    done = subprocess.run(
        [sys.executable, "-c", f"{code} unpacked.die_with_the_bootloader()"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert LocalError.__name__ in done.stderr
