"""Stopping what fills the disk."""

from pathlib import Path

import anyio
import pytest

from tendril_rt.errors import StepError
from tendril_rt.runner.disk import limited

pytestmark = pytest.mark.integration

_LIMIT_BYTES = 100_000


def _excess(cause: StepError | None) -> StepError:
    return StepError(f"too much: {cause}")


async def _fill(folder: Path, bytes_: int) -> None:
    await anyio.Path(folder / "file").write_bytes(b"x" * bytes_)


async def test_what_stays_below_the_limit_is_left_alone(tmp_path: Path) -> None:
    async def work() -> str:
        await _fill(tmp_path, _LIMIT_BYTES // 2)
        return "done"

    assert await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess) == "done"


@pytest.mark.parametrize("kind", [StepError, ZeroDivisionError])
async def test_its_own_failure_comes_through_as_it_is(
    tmp_path: Path, kind: type[Exception]
) -> None:
    async def work() -> None:
        raise kind("its own")

    with pytest.raises(kind, match=r"^its own$"):
        await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess)


async def test_work_that_would_go_on_for_ever_is_cancelled(tmp_path: Path) -> None:
    async def work() -> None:
        await _fill(tmp_path, 2 * _LIMIT_BYTES)
        await anyio.sleep_forever()

    with pytest.raises(StepError, match=r"^too much: None$"):
        await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess)


async def test_work_that_ended_before_anybody_looked_is_found_out(tmp_path: Path) -> None:
    async def work() -> None:
        await _fill(tmp_path, 2 * _LIMIT_BYTES)

    with pytest.raises(StepError, match=r"^too much: None$"):
        await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess)


async def test_work_that_can_be_interrupted_ends_in_its_own_way(tmp_path: Path) -> None:
    interrupt = anyio.Event()

    async def work() -> None:
        await _fill(tmp_path, 2 * _LIMIT_BYTES)
        await interrupt.wait()
        raise StepError("interrupted, state saved")

    with pytest.raises(StepError, match=r"^too much: interrupted, state saved$"):
        await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess, interrupt=interrupt)


async def test_work_that_ends_well_all_the_same_has_succeeded(tmp_path: Path) -> None:
    interrupt = anyio.Event()

    async def work() -> str:
        await _fill(tmp_path, 2 * _LIMIT_BYTES)
        await interrupt.wait()
        return "applied"

    done = await limited(
        work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess, interrupt=interrupt
    )
    assert done == "applied"


async def test_a_cancellation_is_that_of_the_work(tmp_path: Path) -> None:
    ended = anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await limited(work, tmp_path, max_bytes=_LIMIT_BYTES, excess=_excess)

    assert scope.cancelled_caught
    assert ended.is_set()
