"""Who came since: everybody who did, and everybody at all where that cannot be told."""

import os
import subprocess
from dataclasses import replace

from tendril_rt.runner.census import Census, has_variable, living


def test_newcomers_are_those_that_began_since() -> None:
    with subprocess.Popen(["sleep", "60"]) as before:
        census = Census.take()
        with subprocess.Popen(["sleep", "60"]) as since:
            newcomers = census.newcomers()
            since.kill()
        before.kill()
    assert str(since.pid) in newcomers
    assert str(before.pid) not in newcomers
    assert str(os.getpid()) not in newcomers


def test_where_numbers_may_have_come_round_everybody_is_a_newcomer() -> None:
    census = Census.take()
    assert census.forks is not None
    for forks in (None, census.forks - (1 << 22)):
        assert str(os.getpid()) in replace(census, forks=forks).newcomers()


def test_who_lives_is_among_the_living() -> None:
    assert str(os.getpid()) in living()


def test_a_process_is_found_by_a_whole_variable_that_it_began_with() -> None:
    env = {"FIRST": "1", "MARK": "a path"}
    with subprocess.Popen(
        ["/bin/sh", "-c", "echo; read end"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()  # in the middle of its exec, a process has no environment
        pid = str(process.pid)
        found = [has_variable(pid, wanted) for wanted in ("MARK=a path", "FIRST=1")]
        missed = [has_variable(pid, wanted) for wanted in ("MARK=a", "ARK=a path", "SECOND=2")]
    assert (found, missed) == ([True] * 2, [False] * 3)
    assert not has_variable(pid, "FIRST=1"), "it has ended"
