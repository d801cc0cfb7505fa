"""Carries a schedule out: keeps the queues filled, and strikes each run at its moment."""

import time
from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread
import psycopg
from anyio.abc import TaskGroup

from tests.chaos import database, faults
from tests.chaos.evidence import Case, Witness, cases, read_witness
from tests.chaos.scene import Agent, Scene
from tests.chaos.script import Moment, Run, Strike
from tests.chaos.waiting import until

ENDED = ("SUCCESS", "FAILED", "CANCELLED")
_LOOK_S = 0.1
_AHEAD = 5  # provisions of a cluster that are not over: two run, three wait
_STUCK_S = 300.0  # without the end of any provision
_SETTLE_S = 60.0  # for verdicts that the return of an agent withdraws


class Conductor:
    """See the module. Performs once.

    :param on_struck: told of each strike, and whether it hurt anything
    :ivar postponed: runs that were never submitted, since the queue before them came to a halt
    """

    def __init__(self, scene: Scene, on_struck: Callable[[Run, Strike, bool], None]) -> None:
        self._scene = scene
        self._on_struck = on_struck
        self._runs: dict[str, Run] = {}  # by the id of their provision
        self._standing: dict[str, database.Standing] = {}
        self._moved_at = time.monotonic()  # when the last provision ended
        self.postponed: list[int] = []

    async def perform(self, plan: Sequence[Run]) -> None:
        """Submit and strike; return when everything is over and has settled, or stands still."""
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._watch)
            async with anyio.create_task_group() as tasks:
                for cluster in range(len(self._scene.cluster_ids)):
                    mine = [run for run in plan if run.cluster == cluster]
                    tasks.start_soon(self._feed, mine, tasks)
            await self._settle()
            watching.cancel_scope.cancel()

    async def evidence(self) -> list[Case]:
        """Return all that is known of each submitted provision."""
        scene = self._scene
        rows, chunks, audit = await self._scene.ask(database.evidence)
        return await anyio.to_thread.run_sync(
            lambda: cases(
                self._runs, rows, chunks, audit, scene.injuries,
                witness_dir=scene.witness_dir, states_dir=scene.states_dir,
            )
        )  # fmt: skip

    async def _feed(self, plan: Sequence[Run], strikes: TaskGroup) -> None:
        """Keep the queue of one cluster filled."""
        for place, run in enumerate(plan):
            await until(lambda: self._unfinished(run.cluster) < _AHEAD or self._is_stuck)  # noqa: B023
            if self._is_stuck:
                self.postponed += [later.number for later in plan[place:]]
                return
            await self._submit(run, strikes)

    async def _submit(self, run: Run, strikes: TaskGroup) -> None:
        provision_id = database.new_id()
        self._runs[provision_id] = run
        cluster_id = self._scene.cluster_ids[run.cluster]
        snapshot = self._snapshot(run)
        await self._scene.ask(
            lambda url: database.submit(url, provision_id, cluster_id, run, snapshot)
        )
        for strike in run.strikes:
            strikes.start_soon(self._strike, provision_id, run, strike)

    async def _strike(self, provision_id: str, run: Run, strike: Strike) -> None:
        await self._moment(provision_id, run, strike.moment)
        await anyio.sleep(strike.delay_s)
        victim = self._victim(provision_id, run)
        hurt = await faults.strike(self._scene, victim, provision_id, strike)
        self._on_struck(run, strike, hurt)

    async def _moment(self, provision_id: str, run: Run, moment: Moment) -> None:
        """Wait until it has come, or the provision has ended without it."""

        def has_come() -> bool:
            standing = self._standing.get(provision_id)
            match moment:
                case Moment.QUEUED:
                    return True
                case Moment.CLAIMED:
                    return standing is not None and standing.status != "QUEUED"
                case Moment.PRINTING:
                    return bool(self._witness(run).starts)
                case Moment.PRINTED:
                    return bool(self._witness(run).ends)

        await until(lambda: has_come() or self._has_ended(provision_id) or self._is_stuck)

    def _witness(self, run: Run) -> Witness:
        return read_witness(self._scene.witness_dir / run.token)

    def _victim(self, provision_id: str, run: Run) -> Agent:
        """Return the agent that has the provision; while nobody has, one of its cluster's."""
        standing = self._standing.get(provision_id)
        if standing and standing.agent_id:
            agent = self._scene.agent_with(standing.agent_id)
            if agent is not None:
                return agent
        mine = [agent for agent in self._scene.agents if agent.cluster == run.cluster]
        return mine[run.number % len(mine)]

    def _snapshot(self, run: Run) -> dict[str, object]:
        return {
            "template_source": {"repo": self._scene.repo, "version": "v1", "path": "printer"},
            "backend_config": {"path": str(self._scene.states_dir / f"{run.stack}.tfstate")},
            "terraform_vars": {
                "token": run.token,
                "stack": run.stack,
                "witness_dir": str(self._scene.witness_dir),
                "lines": run.lines,
                "burst": run.burst,
                "pause_s": run.pause_s,
            },
        }

    # --- where everything stands --------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            try:
                if url := self._scene.database_url():
                    now = await database.standing(url)
                    before = sum(self._has_ended(provision_id) for provision_id in self._runs)
                    self._standing = now
                    if before != sum(self._has_ended(provision_id) for provision_id in self._runs):
                        self._moved_at = time.monotonic()
            except psycopg.OperationalError:
                pass  # struck; it comes back
            await anyio.sleep(_LOOK_S)

    @property
    def _is_stuck(self) -> bool:
        return time.monotonic() > self._moved_at + _STUCK_S

    def _has_ended(self, provision_id: str) -> bool:
        standing = self._standing.get(provision_id)
        return standing is not None and standing.status in ENDED

    def _unfinished(self, cluster: int) -> int:
        return sum(
            run.cluster == cluster and not self._has_ended(provision_id)
            for provision_id, run in self._runs.items()
        )

    async def _settle(self) -> None:
        """Wait until all has ended, and verdicts on silent agents are withdrawn or final."""
        await until(lambda: self._is_stuck or all(map(self._has_ended, self._runs)))
        await until(self._has_settled, _SETTLE_S)

    def _has_settled(self) -> bool:
        is_provisional = any(standing.is_provisional for standing in self._standing.values())
        return all(map(self._has_ended, self._runs)) and not is_provisional
