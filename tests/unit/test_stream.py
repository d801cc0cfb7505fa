"""Byte by byte: what a program writes is what the log shows, and how little is copied for that."""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tendril_rt.logs import basin as basins
from tendril_rt.logs.basin import SLOT_BYTES, Basin
from tendril_rt.logs.reader import Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.spool import Spool
from tendril_rt.model import StreamType
from tests.unit.log_support import chunks, new_spool, shown, text_of

OUT, ERR = StreamType.STDOUT, StreamType.STDERR
SECRET = b"the secret of the house"
_ANSI = b"\x1b[1;31mError\x1b[0m \x1b]8;;https://example.com\x1b\\link\x1b]8;;\x1b\\ "


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[tuple[Spool, Basin]]:
    with ExitStack() as stack:
        spool = stack.enter_context(new_spool(tmp_path))
        yield spool, stack.enter_context(basins.create(tmp_path / "basin"))


def write_all(descriptor: int, text: bytes, sizes: list[int]) -> None:
    """Write *text* in pieces of *sizes*, in turn, and close."""
    position, turn = 0, 0
    while position < len(text):
        size = sizes[turn % len(sizes)]
        position += os.write(descriptor, text[position : position + size])
        turn += 1
    os.close(descriptor)


async def written(reader: Reader, out: bytes, err: bytes, sizes: list[int]) -> None:
    """Have threads write both streams at once, and read them to their end."""
    pipes = [os.pipe(), os.pipe()]
    threads = [
        threading.Thread(target=write_all, args=(pipe[1], text, sizes))
        for pipe, text in zip(pipes, (out, err), strict=True)
    ]
    for thread in threads:
        thread.start()
    await reader.drain(pipes[0][0], pipes[1][0])
    for thread, pipe in zip(threads, pipes, strict=True):
        thread.join()
        os.close(pipe[0])


def hostile(chance: random.Random, size: int) -> bytes:
    """Return text with all that may be in a program's output."""
    kinds = [
        *(b"plain line\n", "größer 🌱 漢\n".encode(), _ANSI, b"\r 10%\r 20%\r\n", b"\0", b"a\0b"),
        *(b"\xff\xfe", b"\xe2\x82", SECRET, SECRET[:9], b"x" * 700, b"\n"),
    ]
    text = bytearray()
    while len(text) < size:
        text += chance.choice(kinds)
    return bytes(text)


@pytest.mark.parametrize(
    "sizes", [[1 << 16], [1, 2, 3, 4000], [10_241]], ids=["large", "mixed", "odd"]
)
async def test_what_was_written_is_stored_after_the_documented_replacements(
    parts: tuple[Spool, Basin], sizes: list[int]
) -> None:
    spool, basin = parts
    chance = random.Random(3)
    out, err = hostile(chance, 400_000), hostile(chance, 150_000)
    await written(Reader(spool, basin, Redactor([SECRET])), out, err, sizes)
    for stream, raw in ((OUT, out), (ERR, err)):
        assert text_of(spool, stream) == shown(raw).replace(SECRET.decode(), "[redacted]")
    stored = chunks(spool)
    assert [chunk.seq for chunk in stored] == list(range(len(stored)))
    assert max(len(chunk.text.encode()) for chunk in stored) <= 65536


async def test_a_megabyte_without_a_newline_is_stored_as_it_is(parts: tuple[Spool, Basin]) -> None:
    spool, basin = parts
    text = b"0123456789abcdef" * 65536
    await written(Reader(spool, basin, Redactor([SECRET])), text, b"", [1 << 16])
    assert text_of(spool, OUT).encode() == text
    assert len(chunks(spool)) < 120


async def test_two_hundred_thousand_tiny_writes_are_stored_as_they_are(
    parts: tuple[Spool, Basin],
) -> None:
    spool, basin = parts
    text = b"tiny\n" * 200_000
    await written(Reader(spool, basin, Redactor([SECRET])), text, b"e" * 1000, [5])
    assert text_of(spool, OUT).encode() == text
    assert text_of(spool, ERR) == "e" * 1000


async def test_between_the_kernel_and_the_encoder_only_tails_are_copied_and_each_byte_decoded_once(
    parts: tuple[Spool, Basin],
) -> None:
    spool, basin = parts
    line = b"aws_instance.web[0]: Still creating... [1m20s elapsed]\n"
    text = line * (8 * 1024 * 1024 // len(line))
    await written(Reader(spool, basin, Redactor([SECRET])), text, b"", [1 << 16])
    turns = len(text) // (SLOT_BYTES - 64 * 1024) + 1
    assert basin.moved_bytes <= turns * 64, "a held back tail, or an escape, per change of slots"
    assert spool.decoded_bytes == 0
    assert text_of(spool, OUT).encode() == text
    assert spool.decoded_bytes == len(text)


async def test_a_pipe_that_somebody_holds_open_ends_when_its_program_has_ended(
    parts: tuple[Spool, Basin], tmp_path: Path
) -> None:
    spool, basin = parts
    reader = Reader(spool, basin, Redactor())
    held = []
    for name in ("out", "err"):
        os.mkfifo(tmp_path / name)
        held.append(os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK))
    for text in (b"init", b"plan"):  # one step after another through the same pipes
        ended = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.drain, held[0], held[1], ended)
            os.write(held[0], text)
            await anyio.lowlevel.checkpoint()
            os.write(held[1], b"warning")
            ended.set()
    for descriptor in held:
        os.close(descriptor)
    assert text_of(spool, OUT) == "initplan"
    assert text_of(spool, ERR) == "warningwarning"
    assert reader.stderr_tail == b"warning"


async def test_no_secret_is_on_disk_or_in_a_tail(parts: tuple[Spool, Basin]) -> None:
    spool, basin = parts
    reader = Reader(spool, basin, Redactor([SECRET]))
    await written(reader, SECRET * 100, b"x" + SECRET, [7])
    for file in spool.folder.glob("*.log"):
        assert SECRET not in await anyio.Path(file).read_bytes()
    assert reader.stderr_tail == b"x[redacted]"
    assert text_of(spool, OUT) == "[redacted]" * 100


def test_output_that_a_dead_reader_had_taken_is_spooled_by_the_next_one(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with new_spool(tmp_path) as spool, basins.create(tmp_path / "basin") as basin:
        os.write(writing, b"taken, " + SECRET[:10])
        basin.lanes[OUT].read(reading, 100)  # and then it is killed
        with basins.reopen(tmp_path / "basin") as found:
            os.write(writing, SECRET[10:])
            found.lanes[OUT].read(reading, 100)
            Reader(spool, found, Redactor([SECRET]), clock=lambda: 0.0).finish()
        assert text_of(spool, OUT) == "taken, [redacted]"
    os.close(reading)
    os.close(writing)
