"""From two pipes into the spool: nothing lost, in order of arrival, flushed in time."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.logs.reader import FLUSH_BYTES, FLUSH_INTERVAL_S, Reader
from tendril_rt.logs.spool import Spool
from tendril_rt.model import StreamType
from tests.unit.log_support import chunks, contents, new_spool, reading, shown, text_of
from tests.unit.virtual_time import in_virtual_time

OUT, ERR = StreamType.STDOUT, StreamType.STDERR


@dataclass(frozen=True)
class Child:
    """The pipes of a process that a test plays."""

    read: dict[StreamType, int]
    write: dict[StreamType, int]

    def say(self, stream: StreamType, raw: bytes) -> None:
        assert os.write(self.write[stream], raw) == len(raw)

    def close(self, stream: StreamType) -> None:
        os.close(self.write.pop(stream))

    def end(self) -> None:
        for stream in tuple(self.write):
            self.close(stream)


@contextmanager
def child() -> Iterator[Child]:
    """Open two pipes that take 64 KB at once, as Linux makes them."""
    out, err = os.pipe(), os.pipe()
    played = Child({OUT: out[0], ERR: err[0]}, {OUT: out[1], ERR: err[1]})
    try:
        yield played
    finally:
        played.end()
        for descriptor in played.read.values():
            os.close(descriptor)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with new_spool(tmp_path) as made:
        yield made


@pytest.fixture
def reader(spool: Spool) -> Iterator[Reader]:
    with reading(spool) as made:
        yield made


async def drain(reader: Reader, played: Child) -> bytes:
    await reader.drain(played.read[OUT], played.read[ERR], anyio.Event())
    return reader.stderr_tail


@in_virtual_time
async def test_the_first_bytes_go_out_at_once_and_later_ones_wait_for_company(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"one ")
            await anyio.sleep(0.01)
            assert contents(spool) == [(OUT, "one ")]
            for word in (b"two ", b"three "):
                played.say(OUT, word)
                await anyio.sleep(0.1)
            assert spool.next_seq == 1
            await anyio.sleep(FLUSH_INTERVAL_S - 0.2)
            assert contents(spool) == [(OUT, "one "), (OUT, "two three ")]
            played.end()


@in_virtual_time
async def test_bytes_after_a_silence_do_not_wait(spool: Spool, reader: Reader) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            for count in range(1, 4):
                played.say(ERR, b"rare\n")
                await anyio.sleep(0.01)
                assert spool.next_seq == count
                await anyio.sleep(60)
            played.end()


@in_virtual_time
async def test_a_full_chunk_does_not_wait(spool: Spool, reader: Reader) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"first")
            await anyio.sleep(0.01)
            played.say(OUT, b"x" * (FLUSH_BYTES + 7))
            await anyio.sleep(0.01)
            assert [len(text) for _, text in contents(spool)] == [5, FLUSH_BYTES + 7]
            played.say(OUT, b"x" * (4 * FLUSH_BYTES + 7))
            await anyio.sleep(0.01)
            assert [len(text) for _, text in contents(spool)[2:]] == 2 * [2 * FLUSH_BYTES]
            played.end()
    assert [len(text) for _, text in contents(spool)][4:] == [7]


@in_virtual_time
async def test_the_wait_for_company_counts_from_the_last_chunk(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"first")
            await anyio.sleep(0.4)
            played.say(OUT, b"x" * FLUSH_BYTES)
            await anyio.sleep(0.01)
            played.say(OUT, b"later")
            await anyio.sleep(0.2)
            assert spool.next_seq == 2
            await anyio.sleep(0.31)
            assert spool.next_seq == 3
            played.end()


@in_virtual_time
async def test_chunks_stand_in_the_order_in_which_their_bytes_arrived(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            for number in range(10):
                played.say((OUT, ERR)[number % 2], b"%d" % number)
                await anyio.sleep(0.001)
            played.end()
    assert contents(spool) == [((OUT, ERR)[n % 2], f"{n}") for n in range(10)]


@in_virtual_time
async def test_of_what_is_there_at_the_same_moment_stdout_comes_first(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        played.say(ERR, b"error")
        played.say(OUT, b"command")
        played.end()
        await drain(reader, played)
    assert contents(spool) == [(OUT, "command"), (ERR, "error")]


@in_virtual_time
async def test_a_character_in_two_writes_is_one_character(spool: Spool, reader: Reader) -> None:
    seedling = "🌱".encode()
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"a" + seedling[:2])
            await anyio.sleep(10)
            played.say(OUT, seedling[2:] + b"b")
            await anyio.sleep(10)
            played.end()
    assert contents(spool) == [(OUT, "a"), (OUT, "🌱b")]


@in_virtual_time
async def test_half_a_character_at_the_end_of_output_is_shown_as_invalid(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        played.say(OUT, b"a\xf0\x9f")
        played.end()
        await drain(reader, played)
    assert text_of(spool, OUT) == "a\ufffd"


@in_virtual_time
async def test_a_nul_byte_costs_nothing_but_itself(spool: Spool, reader: Reader) -> None:
    with child() as played:
        played.say(OUT, b"creating\x00...\nApply complete!\n")
        played.end()
        await drain(reader, played)
    assert text_of(spool, OUT) == "creating...\nApply complete!\n"


@in_virtual_time
async def test_the_end_of_stderr_is_returned_for_the_error_message(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        played.say(ERR, b"x" * 10_000 + b"the end")
        played.say(OUT, b"not this")
        played.end()
        tail = await drain(reader, played)
    assert tail == b"x" * (4096 - 7) + b"the end"


@in_virtual_time
async def test_one_reader_follows_process_after_process(spool: Spool, reader: Reader) -> None:
    for name in (b"init", b"plan"):
        with child() as played:
            played.say(OUT, name)
            played.say(ERR, b"warning of " + name)
            played.end()
            assert await drain(reader, played) == b"warning of " + name
    assert [chunk.seq for chunk in chunks(spool)] == [0, 1, 2, 3]
    assert text_of(spool, OUT) == "initplan"


@in_virtual_time
async def test_one_stream_may_end_long_before_the_other(spool: Spool, reader: Reader) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.close(ERR)
            await anyio.sleep(3600)
            played.say(OUT, b"still here\n")
            await anyio.sleep(1)
            assert contents(spool) == [(OUT, "still here\n")]
            played.end()


@in_virtual_time
async def test_what_is_left_of_an_ended_stream_does_not_wait_for_the_other(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"\x1b[3")
            played.close(OUT)
            await anyio.sleep(1)
            played.say(ERR, b"later")
            await anyio.sleep(1)
            played.end()
    assert contents(spool) == [(OUT, "\x1b[3"), (ERR, "later")]


@in_virtual_time
async def test_a_process_that_is_silent_for_a_day_ends_with_its_pipes(
    spool: Spool, reader: Reader
) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            await anyio.sleep(86_400)
            played.end()
    assert contents(spool) == []


@in_virtual_time
async def test_a_cancelled_reader_spools_what_it_has_read(spool: Spool, reader: Reader) -> None:
    with child() as played:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, reader, played)
            played.say(OUT, b"first ")
            await anyio.sleep(0.01)
            played.say(OUT, b"second\xc3")
            await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert text_of(spool, OUT) == "first second\ufffd"


@settings(deadline=None, max_examples=60)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from([OUT, ERR]),
            st.lists(
                st.sampled_from(
                    [b"text ", b"\n", "é".encode(), "🌱".encode(), b"\x1b[1;31m", b"\0"]
                )
                | st.binary(min_size=1, max_size=3),
                min_size=1,
                max_size=12,
            ).map(b"".join),
            st.sampled_from([0.0, 0.001, 0.3, 2.0]),
        ),
        max_size=12,
    ),
    flush_bytes=st.integers(4, 64),
)
def test_however_output_is_split_over_time_all_of_it_is_spooled(
    writes: list[tuple[StreamType, bytes, float]], flush_bytes: int
) -> None:
    @in_virtual_time
    async def play(reader: Reader) -> None:
        with child() as played:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drain, reader, played)
                for stream, raw, pause_s in writes:
                    played.say(stream, raw)
                    await anyio.sleep(pause_s)
                played.end()

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        spool = stack.enter_context(new_spool(Path(folder)))
        play(stack.enter_context(reading(spool, flush_bytes=flush_bytes)))
        stored = chunks(spool)
        for stream in (OUT, ERR):
            said = b"".join(raw for to, raw, _ in writes if to is stream)
            assert text_of(spool, stream) == shown(said)
    assert [chunk.seq for chunk in stored] == list(range(len(stored)))
    offset = 0
    for chunk in stored:
        assert chunk.byte_offset == offset
        offset += len(chunk.text.encode())
