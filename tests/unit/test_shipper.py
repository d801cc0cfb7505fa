"""From the spool to the control plane: in order, each chunk once, whatever the network does."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.aio.backoff import Backoff
from tendril_rt.errors import LeaseLost, Rejected, SpoolError, Unauthorized, Unavailable
from tendril_rt.logs.reader import FLUSH_INTERVAL_S
from tendril_rt.logs.shipper import (
    MAX_BATCH_BYTES,
    MAX_BATCH_CHUNKS,
    PACE_BYTES,
    PACE_S,
    Shipper,
)
from tendril_rt.logs.spool import Spool
from tendril_rt.model import Ack, Cancel, Chunk, StreamType
from tests.unit.log_support import new_spool, say
from tests.unit.virtual_time import in_virtual_time

OUT = StreamType.STDOUT


class Store:
    """A control plane's log table: idempotent by number, refuses a gap.

    :ivar script: what happens to the next calls: an error instead of an answer, "lost" for an
        answer that never arrives, a number for how many chunks of the call are taken
    """

    def __init__(self, *script: Exception | str | int) -> None:
        self.script = list(script)
        self.stored: list[str] = []
        self.calls: list[tuple[float, int, int]] = []
        self.cancel = Cancel.NONE
        self.latency_s = 0.0
        self.in_flight = 0

    async def append_chunks(self, first_seq: int, batch: Sequence[Chunk]) -> Ack:
        self.calls.append((anyio.current_time(), first_seq, len(batch)))
        self.in_flight += 1
        assert self.in_flight == 1, "one request in flight"
        assert 1 <= len(batch) <= 1_000, "what insert_provision_logs takes"
        await anyio.sleep(self.latency_s)
        self.in_flight -= 1
        return self._answer(first_seq, batch)

    def _answer(self, first_seq: int, batch: Sequence[Chunk]) -> Ack:
        assert [chunk.seq for chunk in batch] == [first_seq + n for n in range(len(batch))]
        fate = self.script.pop(0) if self.script else len(batch)
        if isinstance(fate, Exception):
            raise fate
        if first_seq > len(self.stored):
            return Ack(len(self.stored), accepted=False, cancel=self.cancel)
        for chunk in batch[: fate if isinstance(fate, int) else None]:
            if chunk.seq == len(self.stored):
                self.stored.append(chunk.text)
        if fate == "lost":
            raise Unavailable("the answer was lost")
        return Ack(len(self.stored), accepted=True, cancel=self.cancel)


def no_cancel(_: Cancel) -> None:
    raise AssertionError("nobody asked for a cancel")


def shipper_of(spool: Spool, store: Store) -> Shipper:
    """Make a shipper whose delays are the widest: 0.5, 1, 2 … 15 s."""
    return Shipper(
        spool, store, on_cancel=no_cancel, backoff=Backoff(0.5, 15.0, uniform=lambda _, b: b)
    )


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with new_spool(tmp_path) as made:
        yield made


@in_virtual_time
async def test_everything_is_delivered_in_order_and_then_it_ends(spool: Spool) -> None:
    store = Store()
    for number in range(5):
        say(spool, OUT, b"%d" % number)
    spool.close()
    shipper = shipper_of(spool, store)
    await shipper.run()
    assert store.stored == ["0", "1", "2", "3", "4"]
    assert shipper.acked == 5
    assert len(store.calls) == 1


@in_virtual_time
async def test_what_is_appended_later_follows_without_delay(spool: Spool) -> None:
    store = Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        for number in range(3):
            await anyio.sleep(100)
            say(spool, OUT, b"%d" % number)
        await anyio.sleep(100)
        spool.close()
    assert [(at - 1_000, first) for at, first, _ in store.calls] == [(100, 0), (200, 1), (300, 2)]


@in_virtual_time
async def test_an_empty_log_needs_no_request(spool: Spool) -> None:
    store = Store()
    spool.close()
    await shipper_of(spool, store).run()
    assert store.calls == []


@in_virtual_time
async def test_what_piles_up_during_a_request_goes_together_in_the_next(spool: Spool) -> None:
    store = Store()
    store.latency_s = 1.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        for _ in range(8):
            say(spool, OUT, b"x")
            await anyio.sleep(0.1)
        spool.close()
    assert [count for _, _, count in store.calls] == [1, 7]


@in_virtual_time
async def test_the_first_bytes_go_at_once_and_then_a_call_each_400_ms(spool: Spool) -> None:
    store = Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        for number in range(20):
            say(spool, OUT, b"%d" % number)
            await anyio.sleep(0.1)
        await anyio.sleep(10)
        spool.close()
    began = [round(at - 1_000, 2) for at, _, _ in store.calls]
    assert began == [0, 0.4, 0.8, 1.2, 1.6, 2.0]
    assert store.stored == [str(number) for number in range(20)]


@in_virtual_time
async def test_a_flush_of_the_reader_is_not_kept_waiting(spool: Spool) -> None:
    store = Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        for number in range(4):
            say(spool, OUT, b"%d" % number)
            await anyio.sleep(FLUSH_INTERVAL_S)
        spool.close()
    assert [at - 1_000 for at, _, _ in store.calls] == [0, 0.5, 1.0, 1.5]


@in_virtual_time
async def test_10_kb_go_at_once(spool: Spool) -> None:
    store = Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        await anyio.sleep(1)
        say(spool, OUT, b"first")
        await anyio.sleep(0.1)
        for _ in range(2):
            say(spool, OUT, b"x" * (PACE_BYTES // 2))
            await anyio.sleep(0.01)
        await anyio.sleep(1)
        spool.close()
    assert [(round(at - 1_001, 2), count) for at, _, count in store.calls] == [(0, 1), (0.11, 2)]


@in_virtual_time
async def test_the_end_goes_at_once(spool: Spool) -> None:
    store = Store()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        for text in (b"first", b"last"):
            say(spool, OUT, text)
            await anyio.sleep(0.1)
        spool.close()
    assert [round(at - 1_000, 2) for at, _, _ in store.calls] == [0, 0.2]
    assert anyio.current_time() - 1_000 < PACE_S


@in_virtual_time
async def test_a_backlog_is_sent_without_pauses(spool: Spool) -> None:
    store = Store(1)
    for number in range(2 * MAX_BATCH_CHUNKS):
        say(spool, OUT, b"%d" % (number % 10))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(shipper_of(spool, store).run)
        await anyio.sleep(PACE_S / 2)
        assert len(store.stored) == 2 * MAX_BATCH_CHUNKS
        spool.close()


@in_virtual_time
async def test_an_unavailable_control_plane_is_tried_again_after_growing_delays(
    spool: Spool,
) -> None:
    store = Store(*(Unavailable("503") for _ in range(4)))
    say(spool, OUT, b"kept")
    spool.close()
    await shipper_of(spool, store).run()
    assert store.stored == ["kept"]
    times = [at for at, _, _ in store.calls]
    assert [b - a for a, b in pairwise(times)] == [0.5, 1.0, 2.0, 4.0]


@in_virtual_time
async def test_no_outage_is_long_enough_to_give_up(spool: Spool) -> None:
    store = Store(*(Unavailable("connection refused") for _ in range(5_000)))
    say(spool, OUT, b"kept")
    spool.close()
    await shipper_of(spool, store).run()
    assert store.stored == ["kept"]
    assert anyio.current_time() - 1_000 > 20 * 3600


@in_virtual_time
async def test_a_key_that_is_refused_for_a_while_loses_nothing(spool: Spool) -> None:
    store = Store(*(Unauthorized("Invalid API key") for _ in range(3)))
    say(spool, OUT, b"kept")
    spool.close()
    await shipper_of(spool, store).run()
    assert store.stored == ["kept"]


@in_virtual_time
async def test_after_a_success_the_delays_start_again(spool: Spool) -> None:
    down = [Unavailable("503") for _ in range(3)]
    store = Store(*down, 1, Unavailable("503"))
    say(spool, OUT, b"a")
    say(spool, OUT, b"b")
    spool.close()
    await shipper_of(spool, store).run()
    assert store.calls[-1][0] - store.calls[-2][0] == 0.5


@in_virtual_time
async def test_a_lost_answer_doubles_nothing(spool: Spool) -> None:
    store = Store("lost", "lost")
    for number in range(3):
        say(spool, OUT, b"%d" % number)
    spool.close()
    await shipper_of(spool, store).run()
    assert store.stored == ["0", "1", "2"]
    assert [first for _, first, _ in store.calls] == [0, 0, 0]


@in_virtual_time
async def test_a_gap_rewinds_to_what_the_control_plane_has(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()
    for number in range(4):
        say(spool, OUT, b"%d" % number)
    spool.close()
    spool.acknowledge(3)
    await shipper_of(spool, store).run()
    assert store.stored == ["0", "1", "2", "3"]
    assert "rewinding from chunk 3 to 0" in caplog.text


@in_virtual_time
async def test_a_gap_that_cannot_be_filled_any_more_is_an_error_and_no_endless_loop(
    spool: Spool,
) -> None:
    for _ in range(600):
        say(spool, OUT, b"x" * 20_000)
    spool.acknowledge(500)
    spool.close()
    with pytest.raises(SpoolError, match="restored from an older copy"):
        await shipper_of(spool, Store()).run()


@in_virtual_time
async def test_a_batch_of_escapes_is_bounded_as_it_is_encoded(spool: Spool) -> None:
    store = Store()
    for _ in range(40):
        say(spool, OUT, b"\x1b" * 20_000)
    spool.close()
    await shipper_of(spool, store).run()
    assert max(count for _, _, count in store.calls) == MAX_BATCH_BYTES // (6 * 20_000)
    assert len(store.stored) == 40


@in_virtual_time
async def test_a_batch_taken_in_part_goes_on_where_it_stopped(spool: Spool) -> None:
    store = Store(2)
    for number in range(5):
        say(spool, OUT, b"%d" % number)
    spool.close()
    await shipper_of(spool, store).run()
    assert [first for _, first, _ in store.calls] == [0, 2]
    assert store.stored == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("error", [LeaseLost("a newer attempt"), Rejected("illegal")])
@in_virtual_time
async def test_a_refusal_ends_it_with_the_spool_kept(spool: Spool, error: Rejected) -> None:
    store = Store(1, error)
    say(spool, OUT, b"a")
    say(spool, OUT, b"b")
    spool.close()
    shipper = shipper_of(spool, store)
    with pytest.raises(type(error)):
        await shipper.run()
    assert shipper.acked == 1
    assert spool.folder.exists()
    assert [chunk.text for chunk in spool.read(1, max_bytes=10, max_chunks=9)] == ["b"]


@pytest.mark.parametrize("asked", [Cancel.GRACEFUL, Cancel.FORCE])
@in_virtual_time
async def test_an_answer_may_carry_the_wish_to_cancel(spool: Spool, asked: Cancel) -> None:
    store, heard = Store(), list[Cancel]()
    store.cancel = asked
    say(spool, OUT, b"a")
    spool.close()
    await Shipper(spool, store, on_cancel=heard.append).run()
    assert heard == [asked]
    assert store.stored == ["a"]


@in_virtual_time
async def test_batches_are_bounded_in_bytes_and_in_chunks(spool: Spool) -> None:
    store = Store()
    for _ in range(2 * MAX_BATCH_CHUNKS + 1):
        say(spool, OUT, b"x")
    for _ in range(60):
        say(spool, OUT, b"y" * 10_240)
    spool.close()
    await shipper_of(spool, store).run()
    assert max(count for _, _, count in store.calls) == MAX_BATCH_CHUNKS
    for _, first, count in store.calls:
        assert sum(map(len, store.stored[first : first + count])) <= MAX_BATCH_BYTES
    assert len(store.calls) <= 2 + 1 + 3


@in_virtual_time
async def test_more_than_was_sent_is_not_believed(spool: Spool) -> None:
    store = Store()
    store.stored = ["?"] * 9
    say(spool, OUT, b"a")
    spool.close()
    shipper = shipper_of(spool, store)
    await shipper.run()
    assert shipper.acked == 1


@in_virtual_time
async def test_a_cancelled_shipper_goes_on_later_where_it_was(spool: Spool) -> None:
    store = Store(1)
    store.latency_s = 1.0
    say(spool, OUT, b"a")
    say(spool, OUT, b"b")
    spool.close()
    shipper = shipper_of(spool, store)
    with anyio.move_on_after(1.5):
        await shipper.run()
    assert shipper.acked == 1
    store.in_flight = 0
    await shipper.run()
    assert store.stored == ["a", "b"]


fates = st.lists(
    st.sampled_from(["lost", 0, 1, 2]) | st.builds(Unavailable, st.just("503")), max_size=12
)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.binary(min_size=1, max_size=9), max_size=12), script=fates)
def test_whatever_happens_on_the_way_each_chunk_is_stored_once(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[bytes],
    script: list[Exception | str | int],
) -> None:
    with new_spool(tmp_path_factory.mktemp("spool")) as spool:
        for text in texts:
            say(spool, OUT, text)
        spool.close()
        store = Store(*script)
        in_virtual_time(shipper_of(spool, store).run)()
        sent = spool.read(0, max_bytes=1 << 20, max_chunks=100)
        assert store.stored == [chunk.text for chunk in sent]
