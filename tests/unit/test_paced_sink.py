"""Log calls of one attempt: small ones keep a distance, and nothing that matters waits for it."""

from collections.abc import Sequence

import anyio
import pytest

from tendril_rt.agent.attempt import PACE_S, LeaseSink, PacedSink
from tendril_rt.logs.reader import FLUSH_BYTES
from tendril_rt.model import Ack, AgentId, Cancel, Chunk, Lease, ProvisionId, StreamType
from tests.unit.virtual_time import in_virtual_time

_LEASE = Lease(ProvisionId("provision"), 1, AgentId("agent"))


class _Control:
    """Stores all; answers what the owner wants."""

    def __init__(self, cancel: Cancel = Cancel.NONE) -> None:
        self.cancel = cancel

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        assert lease == _LEASE
        return Ack(first_seq + len(chunks), accepted=True, cancel=self.cancel)

    async def finish(self, *_: object, **__: object) -> None:
        raise AssertionError("a sink reports nothing")


async def _took_s(sink: PacedSink, text: str) -> float:
    began_at = anyio.current_time()
    ack = await sink.append_chunks(7, [Chunk(7, 0, StreamType.STDOUT, text)])
    assert ack.next_seq == 8
    return anyio.current_time() - began_at


def _sink(is_over: anyio.Event, cancel: Cancel = Cancel.NONE) -> PacedSink:
    return PacedSink(LeaseSink(_Control(cancel), _LEASE), is_over)


@in_virtual_time
async def test_a_few_lines_are_followed_by_a_pause() -> None:
    assert await _took_s(_sink(anyio.Event()), "line\n") == pytest.approx(PACE_S)


@in_virtual_time
async def test_much_output_goes_on_at_once() -> None:
    assert await _took_s(_sink(anyio.Event()), "x" * FLUSH_BYTES) == 0


@in_virtual_time
async def test_a_wish_to_cancel_is_heard_at_once() -> None:
    assert await _took_s(_sink(anyio.Event(), Cancel.GRACEFUL), "line\n") == 0


@in_virtual_time
async def test_the_end_waits_for_nothing() -> None:
    is_over = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await anyio.sleep(PACE_S / 2)
            is_over.set()

        tasks.start_soon(end)
        assert await _took_s(_sink(is_over), "line\n") == pytest.approx(PACE_S / 2)
    assert await _took_s(_sink(is_over), "line\n") == 0
