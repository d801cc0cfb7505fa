"""Waiting for what nothing tells us of: processes, files, rows."""

from collections.abc import Callable

import anyio

_LOOK_S = 0.05


async def until(holds: Callable[[], bool], within_s: float = float("inf")) -> bool:
    """Wait until *holds* answers True; return False if it does not within *within_s* seconds.

    Cancellation: safe.
    """
    with anyio.move_on_after(within_s):
        while not holds():  # noqa: ASYNC110 - the one place for it
            await anyio.sleep(_LOOK_S)
        return True
    return False
