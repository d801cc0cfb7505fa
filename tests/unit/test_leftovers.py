"""Spools without a run: delivered, or kept and named, and not for ever."""

import os
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread
import pytest

from tendril_rt.errors import LeaseLost
from tendril_rt.logs import folders, leftovers
from tendril_rt.logs.shipper import ChunkSink
from tendril_rt.model import Ack, Cancel, Chunk, Lease, StreamType
from tests.unit.log_support import LEASE, limits, new_spool, reopened, say

OUT = StreamType.STDOUT


class Store:
    """A control plane that knows the first chunks already."""

    def __init__(self, known: int, *, refuses: bool = False) -> None:
        self.texts = ["?"] * known
        self.refuses = refuses

    def __call__(self, lease: Lease) -> ChunkSink:
        assert lease == LEASE
        return self

    async def append_chunks(self, first_seq: int, batch: Sequence[Chunk]) -> Ack:
        if self.refuses:
            raise LeaseLost("a newer attempt")
        self.texts += [chunk.text for chunk in batch if chunk.seq >= len(self.texts)]
        return Ack(len(self.texts), accepted=True, cancel=Cancel.NONE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A spool of five chunks, one of them acknowledged."""
    with new_spool(tmp_path) as spool:
        for number in range(5):
            say(spool, OUT, b"%d" % number)
        spool.acknowledge(1)
    return folders.folder_of(tmp_path, LEASE)


async def test_what_is_missing_is_delivered_and_the_spool_is_gone(folder: Path) -> None:
    store = Store(known=3)
    done = await leftovers.deliver(folder, limits(), store)
    assert done == leftovers.Delivery(LEASE, 5, is_complete=True)
    assert store.texts == ["?", "?", "?", "3", "4"]
    assert await anyio.to_thread.run_sync(folders.all_in, folder.parent) == []


async def test_what_is_refused_is_kept_and_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = await leftovers.deliver(folder, limits(), Store(known=0, refuses=True))
    assert not done.is_complete
    assert f"4 chunks of the log of {LEASE.provision_id}, attempt 1, are kept in" in caplog.text


def test_kept_spools_are_found_by_their_folder(folder: Path) -> None:
    assert folders.all_in(folder.parent) == [folder]
    with reopened(folder.parent) as spool:
        assert (spool.acked, spool.next_seq) == (1, 5)


def test_old_spools_are_removed_with_a_word(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed_at = max(file.stat().st_mtime for file in folder.iterdir())

    def prune(age_s: float, *in_use: Path) -> int:
        return leftovers.prune(
            folder.parent, keep_s=86400, max_bytes=1 << 20, in_use=in_use, now=changed_at + age_s
        )

    assert prune(86000) > 0
    assert folder.exists()
    prune(2 * 86400, folder)
    assert folder.exists()
    assert prune(2 * 86400) == 0
    assert not folder.exists()
    assert "not changed for 2.0 days" in caplog.text


def test_of_too_many_spools_the_newest_are_kept(tmp_path: Path) -> None:
    made = []
    for attempt in range(1, 5):
        folder = tmp_path / f"p.{attempt}"
        folders.make(folder, Lease(LEASE.provision_id, attempt, LEASE.agent_id))
        (folder / "000000000000.log").write_bytes(b"x" * 1000)
        os.utime(folder / "about.json", ns=(attempt, attempt))
        made.append(folder)
    kept_bytes = leftovers.prune(tmp_path, keep_s=1e9, max_bytes=2500)
    assert 2000 < kept_bytes <= 2500
    assert folders.all_in(tmp_path) == made[2:]
