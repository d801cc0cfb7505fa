"""How our programs are started again, from an interpreter and from a built binary."""

import subprocess
import sys
from pathlib import Path

import pytest

from tendril_rt.cli import itself

PACKAGE = Path(__file__).parents[2] / "src" / "tendril_rt"


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be what PyInstaller makes of a process: a binary in a folder of its own."""
    binary = tmp_path / "tendril"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "_MEIPASS", str(tmp_path / "_internal"), raising=False)
    monkeypatch.setattr(sys, "executable", str(binary))
    return binary


@pytest.mark.parametrize("program", ["tendril", "grape"])
def test_an_interpreter_is_given_the_module(program: itself.Program) -> None:
    shown = subprocess.run(
        itself.argv_of(program, "--version"), capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith(program)
    assert not itself.is_frozen()
    assert itself.unpack_folder() is None
    assert itself.signal_echo_s() == 0


def test_a_binary_is_given_the_command_alone(frozen: Path) -> None:
    assert itself.argv_of("tendril", "run") == [str(frozen), "run"]
    assert itself.argv_of("grape", "deploy") == [str(frozen), "grape", "deploy"]
    assert itself.unpack_folder() is None, "the folder build unpacks nothing"


def test_a_one_file_binary_knows_where_it_unpacked_itself(
    frozen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = frozen.with_name("_MEIa1b2c3")
    monkeypatch.setattr(sys, "_MEIPASS", str(folder), raising=False)
    assert itself.unpack_folder() == folder
    assert itself.signal_echo_s() > 0


def test_the_command_beside_this_one_is_found_where_there_is_one(frozen: Path) -> None:
    assert itself.beside("grape") is None
    frozen.with_name("grape").touch()
    assert itself.beside("grape") == frozen.with_name("grape")


def test_nobody_else_starts_an_interpreter() -> None:
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if "sys.executable" in path.read_text(encoding="utf-8")
    ]
    assert found == ["cli/itself.py"]
