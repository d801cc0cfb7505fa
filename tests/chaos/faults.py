"""Each kind of fault: how it is inflicted, and how it is undone.

A strike holds its victim's lock, so that one victim suffers one at a time; different victims suffer
together. What it did is written down as an injury; if there was nothing to strike, nothing is.
"""

import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import anyio.to_thread

from tests.chaos import clock, database, disk, processes
from tests.chaos.evidence import Injury, lines_kept
from tests.chaos.proxy import Mode
from tests.chaos.scene import Agent, Scene, Supervised
from tests.chaos.script import KINDS, Strike, Target
from tests.chaos.waiting import until

_TERRAFORM_S = 8.0  # to wait for one to strike
_EXIT_S = 90.0  # to drain, on a busy machine
_OF_A_CANCEL = 0.3  # how far into the kill's length: while the agent hears of it, or acts on it
_START_S = 8.0  # to wait for a victim that is being started again

_DAY_S = 24 * 3600  # longer than any limit of an attempt

_AgentFault = Callable[[Agent, Strike], Awaitable[Injury | None]]


async def strike(scene: Scene, agent: Agent, provision_id: str, what: Strike) -> bool:
    """Inflict *what* upon a provision, its *agent*, or the control plane of all, and undo it.

    Return whether anything was hurt.
    """
    kind = KINDS[what.kind]
    if kind.target is Target.OWNER:
        injury = await _cancel(scene, agent, provision_id, what)
    else:
        async with _victims_lock(scene, agent, kind.target):
            if scene.is_over:
                return False
            if kind.target is Target.PLANE:
                injury = await _strike_plane(scene, what)
            else:
                injury = await _AGENT_FAULTS[what.kind](agent, what)
    if injury is not None:
        scene.injuries.append(replace(injury, over_at=time.time()))
    return injury is not None


def _victims_lock(scene: Scene, agent: Agent, target: Target) -> anyio.Lock:
    match target:
        case Target.PLANE:
            return scene.plane.lock
        case Target.CLOCK:  # whoever is killed meanwhile begins anew at another time
            return agent.clock_lock
        case _:
            return agent.supervised.lock


# --- the agent and its pod ----------------------------------------------------------------------


async def _kill_agent(agent: Agent, what: Strike) -> Injury | None:
    if not await _running(agent.supervised):
        return None
    agent.supervised.expect_end(what.lasts_s)
    agent.supervised.signal(signal.SIGKILL)
    at = time.time()
    survived = await anyio.to_thread.run_sync(processes.terraforms, agent.home)
    held = agent.held()
    await agent.supervised.ended(_EXIT_S)
    return Injury(
        what.kind, at, agent.agent_id, held, survived=frozenset(p.provision or "" for p in survived)
    )


async def _kill_pod(agent: Agent, what: Strike) -> Injury | None:
    if not await _running(agent.supervised):
        return None
    agent.supervised.expect_end(what.lasts_s)
    at, pid = time.time(), agent.supervised.pid
    killed = await anyio.to_thread.run_sync(processes.kill_all, agent.home, pid)
    kept = await anyio.to_thread.run_sync(lines_kept, agent.state_dir)
    return Injury(what.kind, at, agent.agent_id, agent.held(), frozenset(killed), kept=kept)


async def _end_agent(agent: Agent, what: Strike) -> Injury | None:
    """Tell it to drain, or twice, to interrupt; it must end in order."""
    if not await _running(agent.supervised):
        return None
    agent.supervised.expect_end(what.lasts_s)
    at, held = time.time(), agent.held()
    for _ in range(2 if what.kind == "agent-interrupt" else 1):
        agent.supervised.signal(signal.SIGTERM)
        await anyio.sleep(0.05)  # two signals at once are one
    if not await agent.supervised.ended(_EXIT_S):
        agent.supervised.surprises.append(f"{agent.name} did not end after {what.kind}")
        agent.supervised.signal(signal.SIGKILL)
    else:
        agent.supervised.check_exit(what.kind)
    return Injury(what.kind, at, agent.agent_id, held)


async def _pause_agent(agent: Agent, what: Strike) -> Injury | None:
    if not await _running(agent.supervised):
        return None
    at, pid = time.time(), agent.supervised.pid
    await _paused([pid], what.lasts_s)
    return Injury(what.kind, at, agent.agent_id, agent.held())


# --- the owner ----------------------------------------------------------------------------------


async def _cancel(scene: Scene, agent: Agent, provision_id: str, what: Strike) -> Injury | None:
    force = what.kind == "cancel-force"
    was_asked = await scene.ask(lambda url: database.cancel(url, provision_id, force=force))
    if not was_asked:
        return None
    asked = Injury(what.kind, time.time(), agent.agent_id, cancelled=frozenset({provision_id}))
    if what.kind != "cancel-kill":
        return asked
    await anyio.sleep(what.lasts_s * _OF_A_CANCEL)
    async with agent.supervised.lock:
        killed = None if scene.is_over else await _kill_agent(agent, what)
    return asked if killed is None else replace(killed, at=asked.at, cancelled=asked.cancelled)


# --- Terraform, network, clock, disk ------------------------------------------------------------

_TERRAFORM_SIGNALS = {
    "terraform-kill": signal.SIGKILL,
    "terraform-term": signal.SIGTERM,
    "terraform-pause": signal.SIGSTOP,
}


async def _strike_terraform(agent: Agent, what: Strike) -> Injury | None:
    found: list[processes.Process] = []

    def there_is_one() -> bool:
        found[:] = processes.terraforms(agent.home)
        return bool(found)

    number = _TERRAFORM_SIGNALS[what.kind]
    if not await until(there_is_one, _TERRAFORM_S) or not processes.send(found[0].pid, number):
        return None
    at, struck = time.time(), frozenset({found[0].provision or ""})
    if number is signal.SIGSTOP:
        await anyio.sleep(what.lasts_s)
        processes.send(found[0].pid, signal.SIGCONT)
        return Injury(what.kind, at, agent.agent_id, struck)
    return Injury(what.kind, at, agent.agent_id, killed=struck)


_MODES = {
    "net-cut": Mode.CUT,
    "net-outage": Mode.CUT,
    "net-stall": Mode.STALL,
    "net-deaf": Mode.DEAF,
}


async def _strike_network(agent: Agent, what: Strike) -> Injury:
    at = time.time()
    agent.proxy.become(_MODES[what.kind])
    await anyio.sleep(what.lasts_s)
    agent.proxy.become(Mode.PASS)
    return Injury(what.kind, at, agent.agent_id, agent.held())


async def _set_clock(agent: Agent, what: Strike) -> Injury:
    at, held = time.time(), agent.held()
    clock.step(agent.clock, _DAY_S if what.kind == "clock-forward" else -_DAY_S)
    await anyio.sleep(what.lasts_s)
    clock.step(agent.clock, 0)
    return Injury(what.kind, at, agent.agent_id, held | agent.held())


async def _fill_disk(agent: Agent, what: Strike) -> Injury:
    at, held = time.time(), agent.held()
    filler = await anyio.to_thread.run_sync(disk.fill, agent.state_dir)
    await anyio.sleep(what.lasts_s)
    filler.unlink()
    return Injury(what.kind, at, agent.agent_id, held | agent.held())


_AGENT_FAULTS: dict[str, _AgentFault] = {
    "agent-kill": _kill_agent,
    "agent-term": _end_agent,
    "agent-interrupt": _end_agent,
    "agent-pause": _pause_agent,
    "agent-silence": _pause_agent,
    **dict.fromkeys(("pod-kill", "pod-outage"), _kill_pod),
    **dict.fromkeys(_TERRAFORM_SIGNALS, _strike_terraform),
    **dict.fromkeys(_MODES, _strike_network),
    **dict.fromkeys(("clock-forward", "clock-back"), _set_clock),
    "disk-full": _fill_disk,
}


# --- the control plane --------------------------------------------------------------------------


_PLANE_SIGNALS = {
    "gateway-kill": signal.SIGKILL,
    "gateway-outage": signal.SIGKILL,
    "gateway-term": signal.SIGTERM,
    "gateway-pause": signal.SIGSTOP,
    "postgres-kill": signal.SIGKILL,
    "postgres-crash": signal.SIGKILL,
    "postgres-pause": signal.SIGSTOP,
}


async def _strike_plane(scene: Scene, what: Strike) -> Injury | None:
    if not await _running(scene.plane) or not await scene.is_up(_EXIT_S):
        return None
    at, number = time.time(), _PLANE_SIGNALS[what.kind]
    victims = _plane_victims(scene, what.kind)
    ends = what.kind in ("gateway-kill", "gateway-outage", "gateway-term", "postgres-kill")
    if ends:
        scene.plane.expect_end(what.lasts_s)
    if number is signal.SIGSTOP:
        await _paused(victims, what.lasts_s)
    elif not [pid for pid in victims if processes.send(pid, number)]:
        return None
    if ends:
        await scene.plane.ended(_EXIT_S)
    if not await scene.is_up(_EXIT_S):
        scene.plane.surprises.append(f"the control plane did not come back after {what.kind}")
    return Injury(what.kind, at)


def _plane_victims(scene: Scene, kind: str) -> list[int]:
    if kind.startswith("gateway"):
        return [scene.plane.pid]
    postmaster = scene.postmaster
    if postmaster is None or kind == "postgres-kill":
        return [postmaster] if postmaster is not None else []
    backends = processes.children(postmaster)
    # One that dies takes all sessions along, and the server recovers by itself.
    return backends[-1:] if kind == "postgres-crash" else [postmaster, *backends]


# --- shared -------------------------------------------------------------------------------------


async def _running(victim: Supervised) -> bool:
    """Wait a moment for a victim that is being started again."""
    return await until(lambda: victim.is_running, _START_S)


async def _paused(pids: list[int], lasts_s: float) -> None:
    for pid in pids:
        processes.send(pid, signal.SIGSTOP)
    try:
        await anyio.sleep(lasts_s)
    finally:
        for pid in pids:
            processes.send(pid, signal.SIGCONT)
