"""The read buffers: what a pipe gave is there after a kill, and is not copied before."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.errors import WorkspaceError
from tendril_rt.logs import basin as basins
from tendril_rt.logs.basin import SLOT_BYTES, Lane
from tendril_rt.model import StreamType

OUT, ERR = StreamType.STDOUT, StreamType.STDERR


@contextmanager
def pipe_with(*texts: bytes) -> Iterator[int]:
    """Open a pipe that holds *texts*."""
    reading, writing = os.pipe()
    try:
        for text in texts:
            os.write(writing, text)
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def held(lane: Lane) -> bytes:
    with lane.view(lane.start, lane.end) as view:
        return bytes(view)


def test_only_the_agent_may_read_the_file_which_has_all_its_blocks(tmp_path: Path) -> None:
    path = tmp_path / "basin"
    with basins.create(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_what_was_read_is_there_for_whoever_reopens_the_file(tmp_path: Path) -> None:
    path = tmp_path / "basin"
    with basins.create(path) as basin, pipe_with(b"first second") as descriptor:
        lane = basin.lanes[OUT]
        assert lane.read(descriptor, 100) == 12
        lane.start += 6
        lane.turn()
        with basins.reopen(path) as after:
            assert held(after.lanes[OUT]) == b"second"
            assert (after.lanes[OUT].start, after.lanes[OUT].end) == (6, 12)
            assert held(after.lanes[ERR]) == b""


def test_a_read_that_nobody_counted_is_found(tmp_path: Path) -> None:
    path = tmp_path / "basin"
    with basins.create(path) as basin, pipe_with(b"counted ", b"") as descriptor:
        lane = basin.lanes[ERR]
        lane.read(descriptor, 100)
        begin = lane.at(lane.end)
        lane.buffer[begin : begin + 9] = b"not\0yet\0\0"  # as readv leaves it when it is killed
        with basins.reopen(path) as after:
            assert held(after.lanes[ERR]) == b"counted notyet"


def test_nothing_is_copied_between_reads_and_only_what_is_kept_when_a_slot_is_full() -> None:
    with basins.in_memory() as basin, pipe_with(b"x" * 60_000) as descriptor:
        lane = basin.lanes[OUT]
        while lane.end < 60_000:
            lane.read(descriptor, 10_000)
        assert basin.moved_bytes == 0
        lane.start = lane.end - 17
        lane.turn()
        assert basin.moved_bytes == 17
        assert held(lane) == b"x" * 17
        assert lane.room_bytes == SLOT_BYTES - 17


@settings(deadline=None)
@given(
    texts=st.lists(st.binary(min_size=1, max_size=50) | st.just(b"\0\0"), max_size=12),
    turns=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_nul_is_dropped_and_nothing_else(texts: list[bytes], turns: list[bool]) -> None:
    with basins.in_memory() as basin:
        lane = basin.lanes[OUT]
        for text, turns_now in zip(texts, turns, strict=False):
            with pipe_with(text) as descriptor:
                assert lane.read(descriptor, 100) == len(text)
            if turns_now:
                lane.turn()
        assert held(lane) == b"".join(texts).replace(b"\0", b"")


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "basin"
    with pytest.raises(WorkspaceError, match="missing or not whole"), basins.reopen(path):
        pass
    path.write_bytes(b"short")
    with pytest.raises(WorkspaceError, match="missing or not whole"), basins.reopen(path):
        pass


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(WorkspaceError, match="TENDRIL_WORKSPACE_DIR"),
        basins.create(tmp_path / "none" / "basin"),
    ):
        pass
