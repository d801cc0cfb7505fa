"""An attempt's log on disk: numbered, readable while it grows, honest when the disk is full."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.errors import SpoolError
from tendril_rt.logs import spool as spools
from tendril_rt.logs.cut import clean
from tendril_rt.logs.spool import Spool
from tendril_rt.model import Chunk, StreamType
from tests.unit.virtual_time import in_virtual_time

OUT, ERR, SYSTEM = StreamType.STDOUT, StreamType.STDERR, StreamType.SYSTEM
EVERYTHING = {"max_bytes": 1 << 30, "max_chunks": 1 << 20}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with spools.create(tmp_path / "log.spool") as made:
        yield made


def contents(spool: Spool) -> list[tuple[StreamType, str]]:
    return [(chunk.stream, str(chunk.text, "utf-8")) for chunk in spool.read(0, **EVERYTHING)]


@contextmanager
def full_disk_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond *size*: writes there are cut short, then refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_chunks_are_numbered_over_all_streams_and_offsets_count_bytes(spool: Spool) -> None:
    spool.append(OUT, "é\n".encode())
    spool.append(ERR, b"oops\n")
    spool.system("done")
    chunks = spool.read(0, **EVERYTHING)
    assert [(c.seq, c.byte_offset, c.stream, bytes(c.text).decode()) for c in chunks] == [
        (0, 0, OUT, "é\n"),
        (1, 3, ERR, "oops\n"),
        (2, 8, SYSTEM, "done\n"),
    ]
    assert spool.next_seq == 3


def test_a_nul_byte_costs_itself_and_nothing_else(spool: Spool) -> None:
    spool.append(OUT, b"Apply complete!\x00 Resources: 3 added\n")
    spool.append(OUT, b"next\n")
    assert contents(spool) == [
        (OUT, "Apply complete! Resources: 3 added\n"),
        (OUT, "next\n"),
    ]


def test_offsets_count_what_is_stored_and_not_what_was_read(spool: Spool) -> None:
    spool.append(OUT, b"\xff")
    spool.append(OUT, b"a\x00b")
    spool.append(OUT, b"c")
    assert [chunk.byte_offset for chunk in spool.read(0, **EVERYTHING)] == [0, 3, 5]


def test_a_chunk_of_nothing_gets_no_number(spool: Spool) -> None:
    spool.append(OUT, b"")
    spool.append(OUT, b"\x00\x00")
    assert spool.next_seq == 0


@settings(deadline=None)
@given(
    appended=st.lists(st.tuples(st.sampled_from([OUT, ERR]), st.binary(max_size=40)), max_size=20),
    max_bytes=st.integers(1, 200),
    max_chunks=st.integers(1, 5),
)
def test_reading_in_batches_of_any_size_gives_everything_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    appended: list[tuple[StreamType, bytes]],
    max_bytes: int,
    max_chunks: int,
) -> None:
    with spools.create(tmp_path_factory.mktemp("spool") / "log") as spool:
        for stream, raw in appended:
            spool.append(stream, raw)
        read: list[Chunk] = []
        while batch := spool.read(len(read), max_bytes=max_bytes, max_chunks=max_chunks):
            assert len(batch) <= max_chunks
            assert len(batch) == 1 or sum(len(chunk.text) for chunk in batch) <= max_bytes
            read += batch
    assert [(chunk.stream, bytes(chunk.text)) for chunk in read] == [
        (stream, clean(raw)) for stream, raw in appended if clean(raw)
    ]
    assert [chunk.seq for chunk in read] == list(range(len(read)))
    offset = 0
    for chunk in read:
        assert chunk.byte_offset == offset
        offset += len(chunk.text)


def test_a_batch_holds_at_least_one_chunk_however_large(spool: Spool) -> None:
    spool.append(OUT, b"x" * 1000)
    spool.append(OUT, b"y")
    assert [len(chunk.text) for chunk in spool.read(0, max_bytes=10, max_chunks=10)] == [1000]


def test_reading_beyond_the_end_gives_nothing(spool: Spool) -> None:
    assert spool.read(0, **EVERYTHING) == []
    spool.append(OUT, b"a")
    assert spool.read(1, **EVERYTHING) == []


def test_what_was_read_stays_valid_while_the_spool_grows(spool: Spool) -> None:
    spool.append(OUT, b"first")
    [chunk] = spool.read(0, **EVERYTHING)
    for _ in range(100):
        spool.append(OUT, b"x" * 1000)
    assert bytes(chunk.text) == b"first"


def test_the_buffer_may_be_used_again_after_an_append(spool: Spool) -> None:
    buffer = bytearray(b"first")
    spool.append(OUT, memoryview(buffer))
    buffer[:] = b"other"
    assert contents(spool) == [(OUT, "first")]


def test_a_chunk_is_in_the_file_before_append_returns(spool: Spool) -> None:
    spool.append(OUT, b"not to be lost")
    assert spool.path.read_bytes().endswith(b"not to be lost")


def test_only_the_agent_may_read_the_file(spool: Spool) -> None:
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600


def test_an_older_spool_of_the_same_attempt_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "log.spool"
    path.write_bytes(b"left over")
    with spools.create(path) as spool:
        spool.append(OUT, b"new")
        assert contents(spool) == [(OUT, "new")]
        assert b"left over" not in path.read_bytes()


def test_the_file_outlives_the_block_until_it_is_discarded(tmp_path: Path) -> None:
    with spools.create(tmp_path / "log.spool") as spool:
        spool.append(OUT, b"undelivered")
    assert spool.path.exists()
    spools.discard(spool)
    assert not spool.path.exists()
    spools.discard(spool)


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        pytest.raises(SpoolError, match="TENDRIL_STATE_DIR"),
        spools.create(tmp_path / "none" / "x"),
    ):
        pass


@in_virtual_time
async def test_a_waiting_shipper_is_woken_by_growth_and_by_the_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with spools.create(tmp_path_factory.mktemp("spool") / "log") as spool:
        assert not await spool.grown.wait(1)
        spool.append(OUT, b"a")
        assert await spool.grown.wait(1)
        assert not await spool.grown.wait(1)
        assert not spool.is_closed
        spool.close()
        assert spool.is_closed
        assert await spool.grown.wait(1)


def test_a_full_disk_costs_only_what_did_not_fit_and_says_how_much(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    spool.append(OUT, b"kept\n")
    with full_disk_at(spool.path.stat().st_size):
        spool.append(OUT, b"x" * 70)
        spool.append(ERR, b"y" * 30)
    spool.append(OUT, b"after\n")
    assert contents(spool) == [
        (OUT, "kept\n"),
        (SYSTEM, "[100 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]
    assert [chunk.seq for chunk in spool.read(0, **EVERYTHING)] == [0, 1, 2]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("room", [1, 16, 17, 18, 40])
def test_a_record_that_fits_in_part_leaves_no_trace(spool: Spool, room: int) -> None:
    spool.append(OUT, b"kept\n")
    with full_disk_at(spool.path.stat().st_size + room):
        spool.append(OUT, b"x" * 70)
        assert contents(spool) == [(OUT, "kept\n")]
    spool.append(OUT, b"after\n")
    assert contents(spool) == [
        (OUT, "kept\n"),
        (SYSTEM, "[70 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]


def test_room_for_the_notice_alone_counts_on_from_there(spool: Spool) -> None:
    with full_disk_at(0):
        spool.append(OUT, b"x" * 10)
    with full_disk_at(100):
        spool.append(OUT, b"y" * 90)
    spool.append(OUT, b"after\n")
    assert contents(spool) == [
        (SYSTEM, "[10 bytes of output are missing: the disk was full]\n"),
        (SYSTEM, "[90 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]


def test_a_very_long_line_of_the_agent_fits_into_a_chunk(spool: Spool) -> None:
    spool.system("ü" * 100_000)
    [chunk] = spool.read(0, max_bytes=1, max_chunks=1)
    assert len(chunk.text) <= 65536


def test_lost_bytes_are_counted_over_every_loss(tmp_path: Path) -> None:
    with spools.create(tmp_path / "log.spool") as spool:
        assert spool.lost_bytes == 0
        os.dup2(os.open("/dev/full", os.O_RDWR), spool._descriptor)
        spool.append(StreamType.STDOUT, b"12345")
        spool.append(StreamType.STDERR, b"678")
        assert spool.lost_bytes == 8
