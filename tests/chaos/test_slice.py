"""A short piece of the chaos run, with a fixed seed, so that it is a part of every test run."""

import pytest

from tests.chaos.disk import can_mount
from tests.chaos.run import chaos
from tests.chaos.script import KINDS

pytestmark = [pytest.mark.integration, pytest.mark.chaos_slice]

_RUNS = 11
_SEED = 1348
#: One silence alone lasts longer than all the rest.
_LEFT_OUT = {"agent-silence"}


@pytest.mark.timeout(300)
async def test_a_short_piece_of_chaos(tmp_path_factory: pytest.TempPathFactory) -> None:
    left_out = _LEFT_OUT | (set() if can_mount(tmp_path_factory.mktemp("disk")) else {"disk-full"})
    result = await chaos(_RUNS, _SEED, [kind for kind in KINDS if kind not in left_out])
    print(result.table())  # pytest shows it when the test fails
    assert result.violations == []
    assert sum(result.struck.values()) >= _RUNS
