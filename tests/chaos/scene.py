"""The scene: a control plane, clusters, and agents behind proxies, each kept running.

Whoever ends is started again after a pause over what it left on disk, as a supervisor does.
What the strikes did is written down as injuries, for the judge.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import orjson
import psycopg

from tests.chaos import clock, database, processes
from tests.chaos.disk import small_disk
from tests.chaos.evidence import Injury
from tests.chaos.proxy import Proxy, proxying
from tests.chaos.waiting import until
from tests.conftest import TENDRIL
from tests.integration.agents import template_repo

T = TypeVar("T")

TEMPLATE = Path(__file__).parent / "template"
CLUSTERS = 2
AGENTS_PER_CLUSTER = 2
_LOOK_S = 0.05
_START_S = 60.0
_END_S = 60.0
_RESTART_S = 0.5
_AWAY_S = 120.0  # for the database, after whatever strike
#: What an agent says once it may have something to lose by a plain SIGTERM, and when no longer.
_IN_CHARGE, _DONE = "online:", "nothing is left running"


class Supervised:
    """A process that is started again whenever it ends, until it is over.

    :ivar lock: held by whoever strikes it
    :ivar pause_s: before the next start
    :ivar surprises: ends that nobody brought about
    """

    def __init__(self, argv: list[str], env: dict[str, str], folder: Path) -> None:
        self._argv = argv
        self._env = env
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.lock = anyio.Lock()
        self.pause_s = _RESTART_S
        self.is_struck = False
        self.is_over = False
        self.surprises: list[str] = []
        self._logged_before = 0

    @property
    def out(self) -> Path:
        """Its stdout, anew at each start."""
        return self._folder / "out"

    @property
    def log(self) -> Path:
        """Its stderr, of all its lives."""
        return self._folder / "log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self.process.poll() if self.process is not None else None

    @property
    def said(self) -> str:
        """What it logged in this life."""
        return self.log.read_bytes()[self._logged_before :].decode(errors="replace")

    def expect_end(self, pause_s: float) -> None:
        """Say that its next end is no surprise, and how long to wait then."""
        self.is_struck, self.pause_s = True, pause_s

    async def keep_running(self) -> None:
        """Start it, wait for its end, start it again."""
        while not self.is_over:
            self.is_struck = False
            self.process = await anyio.to_thread.run_sync(self._started)
            await until(lambda: not self.is_running)
            clock.forget(self.pid)
            if not (self.is_struck or self.is_over):
                self.surprises.append(f"{self._folder.name} ended by itself: {self.exit_code}")
            if not self.is_over:
                await anyio.sleep(self.pause_s)

    def _started(self) -> subprocess.Popen[bytes]:
        with self.out.open("wb") as out, self.log.open("ab") as log:
            self._logged_before = log.tell()
            return subprocess.Popen(
                self._argv, env=self._env, stdout=out, stderr=log, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self, within_s: float) -> bool:
        """Wait for the end of this life; False if it does not come in time."""
        process = self.process
        return await until(lambda: process is None or process.poll() is not None, within_s)

    def check_exit(self, why: str) -> None:
        """Note it as a surprise unless it ended in order, after :meth:`ended`."""
        said = self.said
        is_idle = _IN_CHARGE not in said or _DONE in said
        if self.exit_code != 0 and not (self.exit_code == -signal.SIGTERM and is_idle):
            self.surprises.append(f"{self._folder.name} ended with {self.exit_code}: {why}")

    async def end(self) -> None:
        """Tell it to end for good; kill it if it does not, which is a surprise."""
        self.is_over = True
        if not self.is_running:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if not await self.ended(_END_S):
            self.surprises.append(f"{self._folder.name} did not end within {_END_S:g} s")
            self.signal(signal.SIGKILL)
            await self.ended(_END_S)
        else:
            self.check_exit("it was told to end")


@dataclass
class Agent:
    """One agent of a cluster, behind its own proxy, with its state on a disk of its own."""

    name: str
    cluster: int
    home: Path
    proxy: Proxy
    supervised: Supervised
    has_small_disk: bool
    clock_lock: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def state_dir(self) -> Path:
        return self.home / "state"

    @property
    def clock(self) -> Path:
        """What its wall clock is set by, where it can be."""
        return self.home / "clock"

    @property
    def agent_id(self) -> str | None:
        """Its id; None before it has made one."""
        try:
            return (self.state_dir / "agent-id").read_text().strip()
        except FileNotFoundError:
            return None

    def held(self) -> frozenset[str]:
        """Return the provisions that it has files of."""
        return frozenset(processes.provisions_named_in(self.home))


@dataclass
class Scene:
    """Everything that runs, and what was done to it."""

    folder: Path
    plane: Supervised
    agents: list[Agent]
    cluster_ids: list[str]
    injuries: list[Injury] = field(default_factory=list)
    is_over: bool = False

    @property
    def witness_dir(self) -> Path:
        return self.folder / "witness"

    @property
    def states_dir(self) -> Path:
        return self.folder / "states"

    @property
    def repo(self) -> str:
        return (self.folder / "repo").as_uri()

    def database_url(self) -> str | None:
        """Return where the database is now; None while the control plane starts."""
        return _said(self.plane).get("database_url")

    @property
    def postmaster(self) -> int | None:
        try:
            text = (self.folder / "plane" / "data" / "data" / "postmaster.pid").read_text()
            return int(text.split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def surprises(self) -> list[str]:
        """Return every end and every absence that no strike explains."""
        everybody = [self.plane, *(agent.supervised for agent in self.agents)]
        return [what for each in everybody for what in each.surprises]

    async def ask(self, question: Callable[[str], Awaitable[T]]) -> T:
        """Ask the database, again while it is away.

        :raises psycopg.OperationalError: it stays away
        """
        deadline = time.monotonic() + _AWAY_S
        while True:
            try:
                if url := self.database_url():
                    return await question(url)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
            await anyio.sleep(_LOOK_S)

    async def is_up(self, within_s: float) -> bool:
        """Wait until the database answers; False if it does not in time."""
        with anyio.move_on_after(within_s):
            while True:
                try:
                    if url := self.database_url():
                        await database.standing(url)
                        return True
                except psycopg.OperationalError:
                    pass
                await anyio.sleep(_LOOK_S)
        return False

    def agent_with(self, agent_id: str) -> Agent | None:
        return next((agent for agent in self.agents if agent.agent_id == agent_id), None)


@asynccontextmanager
async def running(
    folder: Path, *, small_disks: bool, faketime: Path | None = None
) -> AsyncIterator[Scene]:
    """Set the scene in *folder* until the block ends; then end everything in order.

    What is left in the folder, and what is left running, is for the judge.

    :param faketime: the library by which agents' clocks can be set; None: they cannot
    """
    for name in ("plane", "witness", "states"):
        (folder / name).mkdir()
    template = {path.name: path.read_text() for path in TEMPLATE.iterdir()}
    await anyio.to_thread.run_sync(_make_repo, folder / "repo", template)
    port = _free_port()
    argv = [*TENDRIL, "dev", "--json", "--data", str(folder / "plane" / "data"), f"--port={port}"]
    plane = Supervised(argv, dict(os.environ), folder / "plane")
    async with anyio.create_task_group() as tasks, AsyncExitStack() as stack:
        tasks.start_soon(plane.keep_running)
        scene = Scene(folder, plane, [], [])
        try:
            said = await _ready(plane)
            await database.hurry(said["database_url"])
            for number in range(CLUSTERS):
                cluster_id, token = await database.register(said["database_url"], f"chaos {number}")
                scene.cluster_ids.append(cluster_id)
                for letter in "ab"[:AGENTS_PER_CLUSTER]:
                    proxy = await stack.enter_async_context(proxying(port))
                    home = folder / f"agent{number}{letter}"
                    (home / "state").mkdir(parents=True)
                    if small_disks:
                        stack.enter_context(small_disk(home / "state"))
                    env = _environment(said, cluster_id, token, proxy.port, home)
                    agent = Agent(
                        home.name, number, home, proxy,
                        Supervised([*TENDRIL, "run"], env, home), small_disks,
                    )  # fmt: skip
                    if faketime is not None:
                        env.update(clock.environment(faketime, agent.clock))
                    tasks.start_soon(agent.supervised.keep_running)
                    scene.agents.append(agent)
            yield scene
        finally:
            scene.is_over = True
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as ends:
                    for each in scene.agents:
                        ends.start_soon(each.supervised.end)
                await plane.end()


def _make_repo(folder: Path, files: dict[str, str]) -> None:
    source = folder / "printer"
    source.mkdir(parents=True)
    for name, text in files.items():
        (source / name).write_text(text)
    template_repo(folder)


def _environment(
    said: dict[str, str], cluster_id: str, token: str, port: int, home: Path
) -> dict[str, str]:
    return {
        **os.environ,
        "TENDRIL_CLUSTER_ID": cluster_id,
        "TENDRIL_API_TOKEN": token,
        "SUPABASE_URL": f"http://127.0.0.1:{port}",
        "SUPABASE_KEY": said["anon_key"],
        "TENDRIL_STATE_DIR": str(home / "state"),
        "TENDRIL_WORKSPACE_DIR": str(home / "workspaces"),
        "TENDRIL_ALLOW_FILE_REPOS": "true",
        "TENDRIL_CAPACITY": "1",
        "TENDRIL_HEARTBEAT_INTERVAL_S": "1",
        "TENDRIL_POLL_INTERVAL_S": "1",
        "TENDRIL_REQUEST_TIMEOUT_S": "4",
        "TENDRIL_DISK_FLOOR_BYTES": "0",  # the small disks lie below any sensible floor
    }


async def _ready(plane: Supervised) -> dict[str, str]:
    if not await until(lambda: bool(_said(plane) or plane.surprises), _START_S) or plane.surprises:
        raise AssertionError(f"the control plane does not start:\n{plane.log.read_text()}")
    return _said(plane)


def _said(plane: Supervised) -> dict[str, str]:
    """Return what ``tendril dev --json`` printed in this life; empty before that."""
    try:
        text = plane.out.read_bytes()
    except FileNotFoundError:
        return {}
    said: dict[str, str] = orjson.loads(text) if text.endswith(b"\n") else {}
    return said


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
