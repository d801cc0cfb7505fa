"""One agent per state directory, with an id that survives restarts."""

import resource
import stat
import uuid
from pathlib import Path

import pytest

from tendril_rt.agent.identity import identity
from tendril_rt.errors import ConfigError


def test_the_id_is_a_uuid_and_survives_a_restart(tmp_path: Path) -> None:
    with identity(tmp_path / "state") as first:
        assert str(uuid.UUID(first)) == first
    with identity(tmp_path / "state") as second:
        assert second == first


def test_two_folders_are_two_agents(tmp_path: Path) -> None:
    with identity(tmp_path / "a") as one, identity(tmp_path / "b") as other:
        assert one != other


def test_the_folder_is_made_with_its_parents_and_is_private(tmp_path: Path) -> None:
    with identity(tmp_path / "var" / "lib" / "tendril"):
        assert stat.S_IMODE((tmp_path / "var" / "lib" / "tendril").stat().st_mode) == 0o700


def test_a_second_agent_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        identity(tmp_path),
        pytest.raises(ConfigError, match="in use by another agent"),
        identity(tmp_path),
    ):
        raise AssertionError("two agents in one folder")


def test_the_folder_is_free_again_when_an_agent_ends(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), identity(tmp_path):
        raise ZeroDivisionError
    with identity(tmp_path):
        pass


@pytest.mark.parametrize("left", ["", "not an id", "\x00\x00", "4f6c3a52-9f5b-4a1e-8c1f"])
def test_a_damaged_id_is_replaced_by_a_new_one_that_lasts(tmp_path: Path, left: str) -> None:
    (tmp_path / "agent-id").write_text(left)
    with identity(tmp_path) as fresh:
        assert str(uuid.UUID(fresh)) == fresh
    with identity(tmp_path) as again:
        assert again == fresh


def test_a_path_that_is_no_folder_is_a_settings_error_that_names_the_variable(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_text("a file")
    with (
        pytest.raises(ConfigError, match=r"TENDRIL_STATE_DIR is .*state"),
        identity(tmp_path / "state"),
    ):
        pass


def test_an_id_that_cannot_be_written_is_a_settings_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as if the disk were full
    try:
        with pytest.raises(ConfigError, match="TENDRIL_STATE_DIR"), identity(tmp_path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
