"""Unit tests run with blocking calls forbidden in the event loop, as the agent must live."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A blocking call of ours inside the event loop fails the test."""
    with blockbuster_ctx("tendril_rt") as calls:
        for name in ("os.rename", "os.unlink"):  # of one's own segment: no device is waited for
            calls.functions[name].can_block_in("tendril_rt/logs/segment.py", {"create", "remove"})
        yield
