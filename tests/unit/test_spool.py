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
from tendril_rt.logs import folders
from tendril_rt.logs.segment import Progress
from tendril_rt.logs.spool import Spool
from tendril_rt.model import Chunk, StreamType
from tests.unit.log_support import (
    EVERYTHING,
    LEASE,
    chunks,
    contents,
    limits,
    new_spool,
    reopened,
    say,
    shown,
    text_of,
)
from tests.unit.virtual_time import in_virtual_time

OUT, ERR, SYSTEM = StreamType.STDOUT, StreamType.STDERR, StreamType.SYSTEM


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with new_spool(tmp_path) as made:
        yield made


def segment_of(spool: Spool) -> Path:
    """Return the file that the spool writes to."""
    return max(spool.folder.glob("*.log"))


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
    say(spool, OUT, "é\n".encode())
    say(spool, ERR, b"oops\n")
    spool.system("done")
    assert [(c.seq, c.byte_offset, c.stream, c.text) for c in chunks(spool)] == [
        (0, 0, OUT, "é\n"),
        (1, 3, ERR, "oops\n"),
        (2, 8, SYSTEM, "done\n"),
    ]
    assert spool.next_seq == 3


def test_offsets_count_what_is_stored_and_not_what_was_read(spool: Spool) -> None:
    say(spool, OUT, b"\xff")
    say(spool, OUT, b"ab")
    say(spool, OUT, b"c")
    assert [(chunk.byte_offset, chunk.text) for chunk in chunks(spool)] == [
        (0, "\ufffd"),
        (3, "ab"),
        (5, "c"),
    ]


def test_a_chunk_of_nothing_gets_no_number(spool: Spool) -> None:
    say(spool, OUT, b"")
    assert spool.next_seq == 0


def test_a_line_of_the_agent_loses_what_postgres_cannot_hold(spool: Spool) -> None:
    spool.system("a\0b\udcffc")
    assert contents(spool) == [(SYSTEM, "ab?c\n")]


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
    with new_spool(tmp_path_factory.mktemp("spool")) as spool:
        for stream, raw in appended:
            say(spool, stream, raw.replace(b"\0", b""))
        read: list[Chunk] = []
        while batch := spool.read(len(read), max_bytes=max_bytes, max_chunks=max_chunks):
            assert len(batch) <= max_chunks
            assert len(batch) == 1 or sum(len(chunk.text) for chunk in batch) <= max_bytes
            read += batch
    assert [(chunk.stream, chunk.text) for chunk in read] == [
        (stream, shown(raw)) for stream, raw in appended if shown(raw)
    ]
    assert [chunk.seq for chunk in read] == list(range(len(read)))
    offset = 0
    for chunk in read:
        assert chunk.byte_offset == offset
        offset += len(chunk.text.encode())


def test_a_batch_holds_at_least_one_chunk_however_large(spool: Spool) -> None:
    say(spool, OUT, b"x" * 1000)
    say(spool, OUT, b"y")
    assert [len(chunk.text) for chunk in spool.read(0, max_bytes=10, max_chunks=10)] == [1000]


def test_reading_beyond_the_end_gives_nothing(spool: Spool) -> None:
    assert chunks(spool) == []
    say(spool, OUT, b"a")
    assert spool.read(1, **EVERYTHING) == []


def test_what_was_read_stays_valid_while_the_spool_grows(spool: Spool) -> None:
    say(spool, OUT, b"first")
    [chunk] = chunks(spool)
    for _ in range(100):
        say(spool, OUT, b"x" * 1000)
    assert chunk.text == "first"


def test_the_buffer_may_be_used_again_after_an_append(spool: Spool) -> None:
    buffer = bytearray(b"first")
    spool.append(OUT, [([memoryview(buffer)], Progress())])
    buffer[:] = b"other"
    assert contents(spool) == [(OUT, "first")]


def test_a_chunk_is_in_the_file_before_append_returns(spool: Spool) -> None:
    say(spool, OUT, b"not to be lost")
    assert segment_of(spool).read_bytes().endswith(b"not to be lost")


def test_only_the_agent_may_read_the_files(spool: Spool) -> None:
    say(spool, OUT, b"a")
    assert stat.S_IMODE(spool.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(segment_of(spool).stat().st_mode) == 0o600


def test_an_older_spool_of_the_same_attempt_is_replaced(tmp_path: Path) -> None:
    with new_spool(tmp_path) as spool:
        say(spool, OUT, b"left over")
    with new_spool(tmp_path) as spool:
        assert contents(spool) == []
        assert spool.acked == 0


def test_the_folder_outlives_the_block_until_it_is_discarded(tmp_path: Path) -> None:
    with new_spool(tmp_path) as spool:
        say(spool, OUT, b"undelivered")
    assert segment_of(spool).read_bytes().endswith(b"undelivered")
    folders.discard(spool.folder)
    assert not spool.folder.exists()
    folders.discard(spool.folder)


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="TENDRIL_STATE_DIR"), new_spool(tmp_path / "none"):
        pass


@in_virtual_time
async def test_a_waiting_shipper_is_woken_by_growth_and_by_the_end(spool: Spool) -> None:
    assert not await spool.grown.wait(1)
    say(spool, OUT, b"a")
    assert await spool.grown.wait(1)
    assert not await spool.grown.wait(1)
    assert not spool.is_closed
    spool.close()
    assert spool.is_closed
    assert await spool.grown.wait(1)


async def test_the_disk_is_told_to_keep_what_was_written(spool: Spool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(600):
        say(spool, OUT, b"x" * 20_000)
    await spool.sync()
    await spool.sync()
    assert len(os.listdir("/proc/self/fd")) <= before + 3, "of the segments alone"


# --- delivered, and taken up again ----------------------------------------------------------------


def test_segments_that_are_delivered_are_deleted(spool: Spool) -> None:
    for _ in range(1000):
        say(spool, OUT, b"x" * 20_000)
    assert len(list(spool.folder.glob("*.log"))) == 5
    spool.acknowledge(990)
    assert len(list(spool.folder.glob("*.log"))) == 1
    assert [chunk.seq for chunk in chunks(spool, 990)] == list(range(990, 1000))
    assert chunks(spool, 990)[0].byte_offset == 990 * 20_000


def test_a_file_that_is_used_again_shows_nothing_of_its_earlier_content(tmp_path: Path) -> None:
    with new_spool(tmp_path, limits(1 << 20)) as spool:
        for number in range(40):
            say(spool, OUT, b"old %d" % number + b"x" * 20_000)
            spool.acknowledge(spool.next_seq)
        for number in range(5):
            say(spool, OUT, b"new %d" % number)
    with reopened(tmp_path) as spool:
        assert spool.acked == 40
        assert contents(spool, 40) == [(OUT, f"new {number}") for number in range(5)]


def test_a_reopened_spool_goes_on_with_the_next_number(tmp_path: Path) -> None:
    with new_spool(tmp_path) as spool:
        say(spool, OUT, "ä".encode())
        spool.append(ERR, [([b"b"], Progress(11, 2))])
        spool.acknowledge(1)
    with reopened(tmp_path) as spool:
        assert spool.lease == LEASE
        assert (spool.acked, spool.next_seq) == (1, 2)
        assert spool.progress[ERR] == Progress(11, 2)
        spool.system("taken up")
        assert [(c.seq, c.byte_offset, c.text) for c in chunks(spool, 1)] == [
            (1, 2, "b"),
            (2, 3, "taken up\n"),
        ]


def test_the_progress_of_a_stream_outlives_the_segment_that_it_was_in(tmp_path: Path) -> None:
    with new_spool(tmp_path) as spool:
        spool.append(ERR, [([b"early"], Progress(5, 0))])
        for _ in range(500):
            say(spool, OUT, b"x" * 20_000)
        spool.acknowledge(500)
    with reopened(tmp_path) as spool:
        assert spool.progress[ERR] == Progress(5, 0)


@settings(deadline=None, max_examples=60)
@given(
    texts=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=8),
    torn=st.integers(0, 60),
    garbage=st.binary(max_size=20),
)
def test_a_torn_end_costs_the_torn_record_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], torn: int, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    with new_spool(folder) as spool:
        ends: list[int] = []
        for text in texts:
            spool.append(OUT, [([text], Progress(len(ends) + 1, 0))])
            ends.append(segment_of(spool).stat().st_size)
    path = segment_of(spool)
    written = path.read_bytes()
    damaged = written[: max(48, len(written) - torn)] + garbage * bool(torn)
    path.write_bytes(damaged)
    whole = sum(damaged[:end] == written[:end] for end in ends)
    with reopened(folder) as spool:
        assert spool.next_seq == whole
        assert spool.progress[OUT] == Progress(whole, 0)
        say(spool, OUT, b"next")
        assert [chunk.text for chunk in chunks(spool)] == [
            *(text.decode(errors="replace") for text in texts[:whole]),
            "next",
        ]


def test_a_record_with_a_flipped_bit_is_not_delivered(tmp_path: Path) -> None:
    with new_spool(tmp_path) as spool:
        say(spool, OUT, b"good")
        say(spool, OUT, b"damaged")
    path = segment_of(spool)
    path.write_bytes(path.read_bytes().replace(b"damaged", b"damagee"))
    with reopened(tmp_path) as spool:
        assert contents(spool) == [(OUT, "good")]


def test_what_is_not_a_spool_is_named(tmp_path: Path) -> None:
    (tmp_path / "0c6d6d6a-6a4f-4e0a-9a51-d21c44a3f3ab.1").mkdir()
    with pytest.raises(SpoolError, match="about"), reopened(tmp_path):
        pass


# --- limits ---------------------------------------------------------------------------------------


def numbered(count: int) -> list[bytes]:
    return [b"%06d" % number + b"." * 9_994 for number in range(count)]


def test_beyond_its_limit_a_spool_keeps_the_beginning_and_the_end(tmp_path: Path) -> None:
    with new_spool(tmp_path, limits(1 << 20)) as spool:
        for text in numbered(1000):
            say(spool, OUT, text)
        on_disk = sum(file.stat().st_size for file in spool.folder.iterdir())
        assert on_disk <= (1 << 20) + 10_000
        kept = chunks(spool)
    assert [chunk.seq for chunk in kept] == list(range(len(kept)))
    [place] = [i for i, chunk in enumerate(kept) if chunk.stream is SYSTEM]
    assert [int(chunk.text[:6]) for chunk in kept[:place]] == list(range(place))
    tail = [int(chunk.text[:6]) for chunk in kept[place + 1 :]]
    assert tail == list(range(1000 - len(tail), 1000))
    assert place > 50
    assert len(tail) > 20
    missing = 10_000 * (1000 - place - len(tail))
    assert kept[place].text.startswith(f"[{missing} bytes of output are left out here")
    assert spool.lost_bytes == missing


def test_what_was_left_out_stays_left_out_after_a_restart(tmp_path: Path) -> None:
    with new_spool(tmp_path, limits(1 << 20)) as spool:
        for text in numbered(300):
            say(spool, OUT, text)
        spool.acknowledge(3)
        expected = contents(spool, 3)
    with reopened(tmp_path, limits(1 << 20)) as spool:
        assert spool.acked == 3
        assert contents(spool, 3) == expected
        for text in numbered(200):
            say(spool, OUT, text)
        assert [chunk.stream for chunk in chunks(spool, 3)].count(SYSTEM) == 1
        assert spool.read(spool.next_seq - 1, **EVERYTHING)[0].text.startswith("000199")


def test_a_mark_that_is_delivered_is_followed_by_a_new_one(tmp_path: Path) -> None:
    with new_spool(tmp_path, limits(1 << 20)) as spool:
        delivered: list[Chunk] = []
        for _ in range(2):
            for text in numbered(300):
                say(spool, OUT, text)
            delivered += chunks(spool, spool.acked)
            spool.acknowledge(spool.next_seq)
    assert [chunk.seq for chunk in delivered] == list(range(len(delivered)))
    assert [chunk.stream for chunk in delivered].count(SYSTEM) == 2


def test_spools_share_one_allowance_and_say_what_it_costs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = limits(8 << 20, total_bytes=2 << 20)
    (tmp_path / "other").mkdir()
    with new_spool(tmp_path / "other", both) as hungry, new_spool(tmp_path, both) as spool:
        for text in numbered(300):
            say(hungry, OUT, text)
        assert both.allowance.used_bytes <= 2 << 20
        say(spool, OUT, b"x" * 10_000)
        assert spool.lost_bytes == 10_000
        assert "output is being lost" in caplog.text
        hungry.acknowledge(hungry.next_seq)
        say(spool, OUT, b"after")
        assert text_of(spool, OUT) == "after"
        assert "10000 bytes of output are missing" in text_of(spool, SYSTEM)
    assert both.allowance.used_bytes == 0


# --- a full disk ----------------------------------------------------------------------------------


def test_a_full_disk_costs_only_what_did_not_fit_and_says_how_much(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    say(spool, OUT, b"kept\n")
    with full_disk_at(segment_of(spool).stat().st_size):
        say(spool, OUT, b"x" * 70)
        say(spool, ERR, b"y" * 30)
    say(spool, OUT, b"after\n")
    assert contents(spool) == [
        (OUT, "kept\n"),
        (SYSTEM, "[100 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]
    assert [chunk.seq for chunk in chunks(spool)] == [0, 1, 2]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("room", [1, 31, 32, 33, 80])
def test_a_record_that_fits_in_part_leaves_no_trace(spool: Spool, room: int) -> None:
    say(spool, OUT, b"kept\n")
    with full_disk_at(segment_of(spool).stat().st_size + room):
        say(spool, OUT, b"x" * 70)
        assert contents(spool) == [(OUT, "kept\n")]
    say(spool, OUT, b"after\n")
    assert contents(spool) == [
        (OUT, "kept\n"),
        (SYSTEM, "[70 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]


def test_room_for_the_notice_alone_counts_on_from_there(spool: Spool) -> None:
    with full_disk_at(0):
        say(spool, OUT, b"x" * 10)
    with full_disk_at(140):
        say(spool, OUT, b"y" * 90)
    say(spool, OUT, b"after\n")
    assert contents(spool) == [
        (SYSTEM, "[10 bytes of output are missing: the disk was full]\n"),
        (SYSTEM, "[90 bytes of output are missing: the disk was full]\n"),
        (OUT, "after\n"),
    ]


def test_a_very_long_line_of_the_agent_fits_into_a_chunk(spool: Spool) -> None:
    spool.system("ü" * 100_000)
    [chunk] = spool.read(0, max_bytes=1, max_chunks=1)
    assert len(chunk.text) <= 65536


def test_lost_bytes_are_counted_over_every_loss(spool: Spool) -> None:
    assert spool.lost_bytes == 0
    with full_disk_at(0):
        say(spool, OUT, b"12345")
        say(spool, ERR, b"678")
    assert spool.lost_bytes == 8
