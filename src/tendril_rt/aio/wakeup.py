"""A coalescing wakeup: any number of sets before a wait count as one.

Carries no data on purpose: whoever wakes looks at the truth itself.
"""

import anyio


class Wakeup:
    """Set from callbacks of the event loop; awaited by one loop."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        """Wake the waiter now, or its next wait at once. Never raises, never blocks."""
        self._event.set()

    def clear(self) -> None:
        """Forget what was set: the caller is about to look at the truth itself."""
        if self._event.is_set():
            self._event = anyio.Event()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Return True when set, False when *timeout_s* seconds passed first; clears it.

        Cancellation: safe; a set that arrived meanwhile is kept for the next wait.
        """
        with anyio.move_on_after(timeout_s):
            await self._event.wait()
        if not self._event.is_set():
            return False
        self._event = anyio.Event()
        return True
