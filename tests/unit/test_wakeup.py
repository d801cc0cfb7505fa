"""A wakeup coalesces, is never lost, and costs no time when it is already there."""

import anyio

from tendril_rt.aio.wakeup import Wakeup
from tests.unit.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_set_before_the_wait_ends_it_at_once() -> None:
    wakeup, start = Wakeup(), anyio.current_time()
    wakeup.set()
    assert await wakeup.wait(10)
    assert anyio.current_time() == start


@in_virtual_time
async def test_many_sets_count_as_one() -> None:
    wakeup = Wakeup()
    for _ in range(3):
        wakeup.set()
    assert await wakeup.wait(1)
    assert not await wakeup.wait(1)


@in_virtual_time
async def test_without_a_set_the_wait_ends_after_its_timeout() -> None:
    wakeup, start = Wakeup(), anyio.current_time()
    assert not await wakeup.wait(7)
    assert anyio.current_time() - start == 7


@in_virtual_time
async def test_a_set_that_is_there_counts_even_with_no_time_to_wait() -> None:
    wakeup = Wakeup()
    wakeup.set()
    assert await wakeup.wait(0)


@in_virtual_time
async def test_a_set_ends_a_wait_that_has_begun() -> None:
    wakeup, start = Wakeup(), anyio.current_time()

    async def set_later() -> None:
        await anyio.sleep(2)
        wakeup.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(set_later)
        assert await wakeup.wait()
    assert anyio.current_time() - start == 2


@in_virtual_time
async def test_a_set_that_meets_a_cancelled_wait_is_kept_for_the_next() -> None:
    wakeup = Wakeup()
    with anyio.CancelScope() as scope:
        wakeup.set()
        scope.cancel()
        await wakeup.wait()
    assert scope.cancelled_caught
    assert await wakeup.wait(0)


@in_virtual_time
async def test_a_set_during_the_work_between_two_waits_is_seen_by_the_second() -> None:
    wakeup = Wakeup()
    wakeup.set()
    await wakeup.wait()
    wakeup.set()
    assert await wakeup.wait(0)


@in_virtual_time
async def test_what_was_cleared_counts_no_more_and_a_begun_wait_is_woken_all_the_same() -> None:
    wakeup, woken = Wakeup(), list[bool]()
    wakeup.set()
    wakeup.clear()
    assert not await wakeup.wait(1)

    async def wait() -> None:
        woken.append(await wakeup.wait(10))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(1)
        wakeup.clear()
        wakeup.set()
    assert woken == [True]
