"""The clock that the other tests rely on."""

import os
import time

import anyio
import pytest

from tests.unit.virtual_time import in_virtual_time


@in_virtual_time
async def test_an_hour_passes_at_once() -> None:
    real = time.monotonic()
    start = anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() - start == pytest.approx(3600)
    assert time.monotonic() - real < 5


@in_virtual_time
async def test_what_is_due_earlier_happens_earlier() -> None:
    order: list[int] = []

    async def after(delay_s: int) -> None:
        await anyio.sleep(delay_s)
        order.append(delay_s)

    async with anyio.create_task_group() as tasks:
        for delay_s in (30, 10, 20):
            tasks.start_soon(after, delay_s)
    assert order == [10, 20, 30]


@in_virtual_time
async def test_bytes_that_have_arrived_are_seen_before_time_passes() -> None:
    receiving, sending = os.pipe()
    start = anyio.current_time()
    try:
        os.write(sending, b"x")
        with anyio.fail_after(60):
            await anyio.wait_readable(receiving)
        assert anyio.current_time() == start
    finally:
        os.close(receiving)
        os.close(sending)


def test_a_wait_that_nothing_can_end_fails_instead_of_hanging() -> None:
    @in_virtual_time
    async def hang() -> None:
        await anyio.Event().wait()

    with pytest.raises(AssertionError, match="hang for ever"):
        hang()
