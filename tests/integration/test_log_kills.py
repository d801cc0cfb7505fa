"""SIGKILL at any moment: what was taken out of a pipe is neither lost nor doubled."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from tendril_rt.model import StreamType
from tests.integration.log_victim import SECRET
from tests.unit.log_support import shown

pytestmark = pytest.mark.integration

_KILLS = 120


@dataclass
class _Program:
    """Writes to a named pipe that it holds open, and remembers what.

    :ivar written: of whole lines, some with a secret, a NUL, or bytes that are no UTF-8
    """

    path: Path
    seed: int
    written: bytearray = field(default_factory=bytearray)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        chance = random.Random(self.seed)
        descriptor = os.open(self.path, os.O_RDWR)
        number = 0
        while not self.stop.is_set():
            lines = bytearray()
            for _ in range(chance.choice([1, 1, 5, 100])):
                extra = chance.choice(
                    [b"", b"", SECRET, b"\0", "ß🌱".encode(), b"\xff", b"." * 300]
                )
                lines += b"%09d %s\n" % (number, extra)
                number += 1
            self.written += lines
            position = 0
            while position < len(lines):
                position += os.write(
                    descriptor, lines[position : position + chance.choice([3, 1000, 60_000])]
                )
            time.sleep(chance.choice([0, 0, 0.0005]))

    def expected(self) -> str:
        return shown(self.written).replace(SECRET.decode(), "[redacted]")


@contextmanager
def _victims(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.log_victim", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


def _live(
    victims: subprocess.Popen[str],
    order: str,
    kill_after_s: float | None,
    *,
    is_unborn: bool = False,
) -> int:
    """Let a victim live, for so long if it is not to end by itself; return how it ended.

    The time counts from when it reads, or for an unborn one from when it begins to find its place.
    """
    assert victims.stdin is not None
    assert victims.stdout is not None
    victims.stdin.write(f"{order}\n")
    victims.stdin.flush()
    pid = int(victims.stdout.readline())
    if not is_unborn:
        assert victims.stdout.readline() == "alive\n"
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    told = victims.stdout.readline()
    return int(victims.stdout.readline() if told == "alive\n" else told)


def _stored(path: Path) -> list[tuple[int, str, str]]:
    """Return offset, stream and text of each chunk by number; a number has one content."""
    chunks: dict[int, tuple[int, str, str]] = {}
    for line in path.read_bytes().split(b"\n"):
        if line.startswith(b"[") and line.endswith(b"]"):
            seq, *content = orjson.loads(line)
            assert chunks.setdefault(seq, tuple(content)) == tuple(content)
    assert sorted(chunks) == list(range(len(chunks)))
    return [chunks[seq] for seq in range(len(chunks))]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [7])
def test_no_kill_loses_or_doubles_a_byte(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    programs = {}
    for name, stream in (("out", StreamType.STDOUT), ("err", StreamType.STDERR)):
        os.mkfifo(tmp_path / name)
        programs[stream] = _Program(tmp_path / name, seed=chance.randrange(1 << 30))
    holders = [os.open(tmp_path / name, os.O_RDWR) for name in ("out", "err")]
    threads = [threading.Thread(target=program.run) for program in programs.values()]
    with _victims(tmp_path) as victims:
        for thread in threads:
            thread.start()
        for _ in range(_KILLS):
            is_unborn = chance.random() < 0.2
            how = _live(victims, "go", chance.uniform(0, 0.03), is_unborn=is_unborn)
            assert how == -signal.SIGKILL
        for program in programs.values():
            program.stop.set()
        while any(thread.is_alive() for thread in threads):  # it may wait for a full pipe
            assert _live(victims, "go", 0.2) == -signal.SIGKILL
        assert _live(victims, "end", None) == 0
    for holder in holders:
        os.close(holder)
    chunks = _stored(tmp_path / "stored")
    offset = 0
    for at, _, text in chunks:
        assert at == offset
        offset += len(text.encode())
    for stream, program in programs.items():
        stored = "".join(text for _, of, text in chunks if of == stream)
        assert len(program.written) > 100_000
        assert stored == program.expected()
