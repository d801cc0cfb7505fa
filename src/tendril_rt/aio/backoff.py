"""Full-jitter exponential backoff: each delay is uniform over a window that doubles to a cap.

Owns no clock and never sleeps: the caller does, so that it can be woken or cancelled.
"""

import random
from collections.abc import Callable


class Backoff:
    """A sequence of delays.

    :param initial_s: width of the first window, in seconds
    :param maximum_s: widest window, in seconds
    :param floor_s: no delay is shorter, so that a refused caller cannot spin
    :param uniform: source of chance, for tests
    """

    def __init__(
        self,
        initial_s: float,
        maximum_s: float,
        *,
        floor_s: float = 0.0,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._initial_s = initial_s
        self._maximum_s = maximum_s
        self._floor_s = floor_s
        self._uniform = uniform
        self._failures = 0

    @property
    def failures(self) -> int:
        """Delays handed out since the last reset."""
        return self._failures

    def next_s(self) -> float:
        """Return the next delay in seconds and widen the window."""
        window_s = min(self._maximum_s, self._initial_s * 2.0 ** min(self._failures, 62))
        self._failures += 1
        return max(self._floor_s, self._uniform(0.0, window_s))

    def reset(self) -> None:
        """Start again with the first window: something worked."""
        self._failures = 0
