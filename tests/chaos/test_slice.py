"""Short pieces of the chaos run, with a fixed seed: a tiny one in every test run."""

import pytest

from tests.chaos.run import chaos, left_out
from tests.chaos.script import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.chaos_slice]

_SEED = 29
#: One of these alone lasts longer than all the rest.
_LONG = {"agent-silence", "pod-outage", "net-outage", "gateway-outage"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("runs", [5, pytest.param(13, marks=pytest.mark.long)])
async def test_a_short_piece_of_chaos(runs: int) -> None:
    not_now = _LONG | left_out().keys()
    result = await chaos(runs, _SEED, [kind for kind in KINDS if kind not in not_now])
    print(result.table())  # pytest shows it when the test fails
    assert result.violations == []
    assert sum(result.struck.values()) >= runs
