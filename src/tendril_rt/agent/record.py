"""What an attempt leaves on disk of itself, so that the agent's next life can take it up again.

One JSON file of mode 0600 per attempt, written anew at each step; gone when the attempt has
nothing to say any more. A record that cannot be written is no reason to stop: it is said in the
log. Whether SIGINT was sent stands in the folder of the launched process, written before the
signal.
"""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from tendril_rt.aio.suspend import uptime_s
from tendril_rt.model import (
    AgentId,
    ClusterId,
    Lease,
    Operation,
    Outcome,
    Phase,
    Provision,
    ProvisionId,
    Status,
)
from tendril_rt.runner import private
from tendril_rt.runner.launched import RunFolder
from tendril_rt.runner.procfs import machine
from tendril_rt.runner.steps import StepResult

_FORMAT = 1
_MAX_BYTES = 64 * 1024 * 1024  # far beyond the largest configuration with its outputs

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class AttemptRecord:
    """One attempt, as far as it is.

    :ivar step: which it is in: ``prepare``, ``init``, ``plan``, ``apply``, ``report``
    :ivar started_at: seconds since 1970
    :ivar started_uptime_s: the same moment in seconds since the boot, on the *machine* of then
    :ivar run_root: where each step's process has its folder, None before there is a workspace
    :ivar root_module: where Terraform runs, None before the template is there
    :ivar done: the steps that have succeeded, for metadata all of them
    :ivar facts: what else becomes ``execution_metadata``
    :ivar outcome: set once the run is over; what is left is to deliver and report it
    """

    provision: Provision
    started_at: float
    phase: Phase = Phase.PREPARE
    step: str = "prepare"
    run_root: Path | None = None
    root_module: Path | None = None
    steps: list[StepResult] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    outcome: Outcome | None = None
    started_uptime_s: float = field(default_factory=uptime_s)
    machine: str = field(default_factory=machine)

    @property
    def age_s(self) -> float:
        """Seconds since the start; setting the wall clock changes it only across a boot."""
        if self.machine == machine():
            return max(0.0, uptime_s() - self.started_uptime_s)
        return max(0.0, time.time() - self.started_at)

    def path_in(self, folder: Path) -> Path:
        lease = self.provision.lease
        return folder / f"{lease.provision_id}.{lease.attempt}.json"

    def has_done(self, step: str) -> bool:
        return any(result.name == step and result.exit_code == 0 for result in self.steps)

    def has_begun(self, step: str) -> bool:
        """Tell whether a process was launched for *step*."""
        return self.run_root is not None and (self.run_root / step).exists()

    @property
    def was_interrupted(self) -> bool:
        """Tell whether the process of the step that it is in was sent a SIGINT."""
        if self.run_root is None:
            return False
        return RunFolder(self.run_root / self.step).was_interrupted

    def save(self, folder: Path) -> None:
        """Write it; a disk that refuses is said in the log."""
        path = self.path_in(folder)
        try:
            private.write(path, json.dumps(self._as_json(), default=str))
        except OSError as exc:
            _log.error("cannot write %s: %s; a restart could not take this attempt up", path, exc)

    def discard(self, folder: Path) -> None:
        """Remove it: nothing is left to be done."""
        self.path_in(folder).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record.

        :raises ValueError: it is none of this format
        :raises OSError: it cannot be read
        """
        try:
            said = json.loads(private.read(path, max_bytes=_MAX_BYTES))
            if said["format"] != _FORMAT:
                raise ValueError(f"{path} has format {said['format']}, this agent reads {_FORMAT}")
            return cls(
                provision=_provision_of(said["provision"]),
                started_at=float(said["started_at"]),
                phase=Phase(said["phase"]),
                step=str(said["step"]),
                run_root=_path_of(said["run_root"]),
                root_module=_path_of(said["root_module"]),
                steps=[StepResult(**item) for item in said["steps"]],
                facts=dict(said["facts"]),
                outcome=said["outcome"]
                and replace(Outcome(**said["outcome"]), status=Status(said["outcome"]["status"])),
                started_uptime_s=float(said.get("started_uptime_s", 0.0)),  # 0.1.0 wrote none
                machine=str(said.get("machine", "")),
            )
        except (KeyError, TypeError, OverflowError, RecursionError) as exc:
            raise ValueError(f"{path} is no record of an attempt: {exc}") from exc

    def _as_json(self) -> Mapping[str, object]:
        return {
            "format": _FORMAT,
            "was_interrupted": self.was_interrupted,  # for people; the folder is the truth
            **asdict(self),
        }


def load_all(folder: Path) -> list[AttemptRecord]:
    """Return every record in *folder*; one that cannot be read is logged and left there."""
    records: list[AttemptRecord] = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = AttemptRecord.load(path)
            if record.path_in(folder) != path:  # its id becomes the name of folders
                raise ValueError(f"{path} holds the record of another attempt")  # noqa: TRY301
            records.append(record)
        except (OSError, ValueError) as exc:
            _log.error("cannot take up %s: %s", path, exc)
    return records


def _provision_of(said: Mapping[str, object]) -> Provision:
    lease = said["lease"]
    if not isinstance(lease, dict):
        raise TypeError("lease is no object")
    claimed_hash, signature = said["configuration_hash"], said["signature"]
    return Provision(
        lease=Lease(
            ProvisionId(str(lease["provision_id"])),
            int(lease["attempt"]),
            AgentId(str(lease["agent_id"])),
        ),
        cluster_id=ClusterId(str(said["cluster_id"])),
        operation=Operation(str(said["operation"])),
        stack_key=str(said["stack_key"]),
        snapshot_json=str(said["snapshot_json"]),
        configuration_hash=None if claimed_hash is None else str(claimed_hash),
        signature=None if signature is None else str(signature),
    )


def _path_of(said: object) -> Path | None:
    if said is None or isinstance(said, str):
        return None if said is None else Path(said)
    raise TypeError("a path is text")
