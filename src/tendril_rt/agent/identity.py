"""Who this agent is: an id that survives restarts, and the lock that makes it one agent.

Lives in ``TENDRIL_STATE_DIR`` (mode 0700), beside the spools and local state that belong to it.
"""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tendril_rt.errors import ConfigError
from tendril_rt.model import AgentId


@contextmanager
def identity(state_dir: Path) -> Iterator[AgentId]:
    """Hold the agent's identity until the block ends; make it the first time.

    :raises ConfigError: another agent uses the folder, or it cannot be written
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise _unusable(state_dir, exc) from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigError(
                f"TENDRIL_STATE_DIR {state_dir} is in use by another agent on this host: give "
                "each agent a folder of its own"
            ) from exc
        try:
            agent_id = _agent_id(state_dir / "agent-id")
        except OSError as exc:
            raise _unusable(state_dir, exc) from exc
        yield agent_id
    finally:
        os.close(lock)


def _unusable(state_dir: Path, exc: OSError) -> ConfigError:
    return ConfigError(
        f"TENDRIL_STATE_DIR is {state_dir}, which cannot be used ({exc.strerror or exc}): name a "
        "folder that this user owns, with space left, that survives restarts"
    )


def _agent_id(path: Path) -> AgentId:
    try:
        return AgentId(str(uuid.UUID(path.read_text().strip())))
    except (FileNotFoundError, ValueError):
        fresh = AgentId(str(uuid.uuid4()))
        temporary = path.with_suffix(".new")
        temporary.write_text(fresh)
        temporary.replace(path)
        return fresh
