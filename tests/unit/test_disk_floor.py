"""Nothing is claimed without room on the disk; said once, and over when there is room again."""

import logging
import shutil
from pathlib import Path

import pytest

from tendril_rt.agent.disk_floor import DiskFloor
from tendril_rt.runner import disk

_NEVER_FREE = 10**18


def _messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_disk_with_room_is_nothing_to_talk_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    floor = DiskFloor([tmp_path], 1)
    assert floor.has_room()
    assert not floor.is_below
    assert _messages(caplog) == []


def test_a_full_disk_is_said_once_and_its_end_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    has_room = [False, False, True, True, False]
    answers = iter(has_room)
    floor = DiskFloor([tmp_path], 10, look=lambda paths, floor_bytes: next(answers))

    assert [floor.has_room() for _ in has_room] == has_room
    first, again, last = _messages(caplog)
    assert "claiming nothing: less than 10 bytes (TENDRIL_DISK_FLOOR_BYTES)" in first
    assert str(tmp_path) in first
    assert "claiming goes on" in again
    assert last == first


def test_every_disk_has_to_have_room(tmp_path: Path) -> None:
    assert disk.has_room([tmp_path, Path("/")], 1)
    assert not disk.has_room([tmp_path, Path("/")], _NEVER_FREE)
    assert disk.has_room([], _NEVER_FREE)


def test_a_folder_that_is_not_there_yet_is_on_the_disk_it_will_be_on(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "yet"
    assert disk.free_bytes(missing) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)
    assert not missing.exists()


def test_a_disk_that_cannot_be_asked_does_not_stop_the_agent(tmp_path: Path) -> None:
    assert DiskFloor([tmp_path / ("x" * 300)], 1).has_room()


def test_what_a_folder_takes_is_counted_in_blocks_and_links_are_not_followed(
    tmp_path: Path,
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 1_000_000)
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "file").write_bytes(b"x" * 100_000)
    (folder / "link").symlink_to(large)
    (folder / "up").symlink_to("..")
    with (folder / "sparse").open("wb") as file:
        file.truncate(10**9)

    assert 100_000 <= disk.used_bytes(folder) < 200_000
    assert disk.used_bytes(tmp_path / "nowhere") == 0
