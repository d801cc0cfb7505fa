"""Files where a template could have put something else."""

import os
from pathlib import Path

import pytest

from tendril_rt.agent.record import AttemptRecord
from tendril_rt.runner import private
from tendril_rt.runner.backend import configured_type
from tendril_rt.runner.launched import RunFolder, Vanished
from tendril_rt.runner.locks import LockHistory
from tendril_rt.runner.procfs import Identity


@pytest.fixture(params=["fifo", "link", "folder", "socket"])
def trap(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What would hang, or lead elsewhere, if it were opened."""
    path = tmp_path / "trap"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "link":
        path.symlink_to("/dev/zero")
    elif request.param == "folder":
        path.mkdir()
    else:
        os.mknod(path, 0o600 | 0o140000)
    return path


def test_only_an_ordinary_file_is_read(trap: Path) -> None:
    with pytest.raises(OSError, match="trap"):
        private.read(trap, max_bytes=10)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc\xff")

    assert private.read(tmp_path / "file", max_bytes=10) == "abc\ufffd"
    assert private.read(tmp_path / "file", max_bytes=2) == "ab"


def test_what_a_template_left_in_the_place_of_a_file_hangs_nobody(
    trap: Path, tmp_path: Path
) -> None:
    (tmp_path / ".terraform").mkdir()
    trap.rename(tmp_path / ".terraform" / "terraform.tfstate")
    assert configured_type(tmp_path) is None

    run = tmp_path / "run"
    run.mkdir()
    for name in ("machine", "process", "launcher", "exit_code"):
        os.mkfifo(run / name)
    assert RunFolder(run).find() == Vanished()

    os.mkfifo(tmp_path / "history")
    assert LockHistory(tmp_path / "history").read() == []
    os.mkfifo(tmp_path / "p.1.json")
    with pytest.raises(OSError, match="ordinary"):
        AttemptRecord.load(tmp_path / "p.1.json")


@pytest.mark.parametrize("stat", ["x (y) " + "z " * 30 + "\n", "1 (y) " + "z " * 30 + "\n", "\n"])
def test_what_is_no_line_of_proc_names_no_process(stat: str) -> None:
    assert Identity.parse(stat) is None
