"""The agents of ``bench.claims``: processes that repeat one contestant's call for a while.

Owns the processes and their clocks: all start and stop at the same instants, which the monotonic
clock of the machine gives them. Must never know what a call does.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from bench.claims_contestants import CONTESTANTS, Target

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_LEAD_S = 0.02  # from the order to the start
_TURNOVER_S = 0.05


@dataclass(frozen=True)
class Task:
    """What one agent repeats: *contestant*'s call, on its *targets* in turn."""

    contestant: str
    url: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Window:
    """On the monotonic clock: calls that end from *records_at* to *ends_at* count."""

    starts_at: float
    records_at: float
    ends_at: float


@dataclass(frozen=True)
class Work:
    """What agents did.

    :ivar took_s: of each call that counts
    :ivar claimed: what all calls claimed, those before the recording too
    :ivar empty: calls that found nothing
    """

    took_s: list[float]
    claimed: list[str]
    empty: int


async def _repeat(task: Task, pipe: "Connection[object, object]") -> Work:
    """Connect, say so, wait for the window, work through it."""
    took_s: list[float] = []
    claimed: list[str] = []
    empty = calls = 0
    async with CONTESTANTS[task.contestant](task.url) as call:
        pipe.send(None)
        window = pipe.recv()
        assert isinstance(window, Window)
        await anyio.sleep(max(0.0, window.starts_at - time.monotonic()))
        started_at = time.monotonic()
        while started_at < window.ends_at:
            found = await call(task.targets[calls % len(task.targets)])
            ended_at = time.monotonic()
            calls += 1
            if found is None:
                empty += 1
            else:
                claimed.append(found)
                if window.records_at <= ended_at < window.ends_at:
                    took_s.append(ended_at - started_at)
            started_at = ended_at
    return Work(took_s, claimed, empty)


def _serve(pipe: "Connection[object, object]") -> None:
    while (task := pipe.recv()) is not None:
        assert isinstance(task, Task)
        pipe.send(anyio.run(_repeat, task, pipe))


@dataclass(frozen=True)
class Crew:
    """Agents, as many as there may ever be at once; all idle between two calls of :meth:`work`."""

    pipes: Sequence["Connection[object, object]"]

    def work(
        self,
        tasks: Sequence[Task],
        *,
        warm_s: float,
        record_s: float,
        meanwhile: Callable[[], None],
    ) -> Work:
        """Let one agent do each of *tasks*, all at once.

        :param warm_s: time for plans and caches, before what counts
        :param meanwhile: called every 50 ms
        """
        pipes = self.pipes[: len(tasks)]
        for pipe, task in zip(pipes, tasks, strict=True):
            pipe.send(task)
        for pipe in pipes:
            pipe.recv()
        now = time.monotonic() + _LEAD_S
        window = Window(now, now + warm_s, now + warm_s + record_s)
        for pipe in pipes:
            pipe.send(window)
        while (left := window.ends_at - time.monotonic()) > 0:
            time.sleep(min(left, _TURNOVER_S))
            meanwhile()
        done = [pipe.recv() for pipe in pipes]
        work = Work([], [], 0)
        for part in done:
            assert isinstance(part, Work)
            work = Work(
                work.took_s + part.took_s, work.claimed + part.claimed, work.empty + part.empty
            )
        return work


@contextmanager
def crew(size: int) -> Iterator[Crew]:
    """Start *size* agents; end them with the block."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes: list[Connection[object, object]] = []
    processes = []
    for _ in range(size):
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    try:
        yield Crew(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join(5)
