"""How many provisions this agent runs at once."""


class Slots:
    """A count with a ceiling. Not a lock: one loop takes, attempts give back."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0

    @property
    def used(self) -> int:
        return self._used

    @property
    def has_free(self) -> bool:
        return self._used < self._capacity

    def take(self) -> None:
        """Use a slot; the caller looked at :attr:`has_free` in the same breath."""
        assert self._used < self._capacity  # noqa: S101 - a programming error, not input
        self._used += 1

    def take_over(self) -> None:
        """Use a slot for what runs already, even where the capacity was lowered meanwhile."""
        self._used += 1

    def give_back(self) -> None:
        self._used -= 1
