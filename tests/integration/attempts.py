"""Attempts of one agent without a control plane of SQL: real git, Terraform, spools and processes.

``python -m tests.integration.attempts FOLDER PROGRAM`` runs the provision that stands in
``FOLDER/record.json`` as an agent would, to be killed by a test.
"""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import simplejson

from tendril_rt.agent.attempt import Attempt
from tendril_rt.agent.equipment import Equipment
from tendril_rt.agent.lease import HeldLease, LeaseKeeper
from tendril_rt.agent.record import AttemptRecord
from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import Unavailable
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.model import (
    Ack,
    AgentId,
    Cancel,
    Chunk,
    ClusterId,
    HeartbeatAnswer,
    Lease,
    LeaseState,
    Operation,
    Outcome,
    Phase,
    Provision,
    ProvisionId,
    StreamType,
)
from tendril_rt.runner import terraform
from tendril_rt.settings import RunnerSettings

from .agents import template_repo

PROGRAM = terraform.find("auto", os.environ["PATH"])


@dataclass
class Said:
    """What a control plane would know of one attempt, and what it answers.

    :ivar cancel: what the owner asks for
    :ivar held: False once a newer attempt exists
    """

    cancel: Cancel = Cancel.NONE
    held: bool = True
    outcome: Outcome | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    chunks: list[tuple[StreamType, bytes]] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)

    def text(self, *streams: StreamType) -> str:
        return b"".join(t for s, t in self.chunks if not streams or s in streams).decode()

    @property
    def message(self) -> str:
        assert self.outcome is not None
        return self.outcome.error_message or ""

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        assert first_seq == len(self.chunks)
        self.chunks += [(chunk.stream, chunk.text.encode()) for chunk in chunks]
        return Ack(len(self.chunks), accepted=True, cancel=self.cancel)

    async def finish(
        self, lease: Lease, outcome: Outcome, *, log_chunks: int, metadata: Mapping[str, object]
    ) -> None:
        assert log_chunks == len(self.chunks)
        self.outcome, self.metadata = outcome, metadata

    async def beat(self, leases: Mapping[Lease, Phase]) -> HeartbeatAnswer:
        self.phases += leases.values()
        states = {lease.provision_id: LeaseState(self.held, self.cancel) for lease in leases}
        return HeartbeatAnswer(states, drain=False, lease_ttl_s=90.0)


@dataclass
class Bench:
    """One agent's folders, and a repository of templates."""

    folder: Path
    repo: str = ""
    program: str = PROGRAM
    settings: RunnerSettings = field(default_factory=RunnerSettings)
    environ: dict[str, str] = field(default_factory=dict)
    extra: dict[str, object] = field(default_factory=dict)
    made: int = 0

    @property
    def equipment(self) -> Equipment:
        return Equipment(
            settings=replace(
                self.settings, workspace_dir=self.folder / "workspaces", allow_file_repos=True
            ),
            log_limits=Limits(1 << 26, Allowance(1 << 30)),
            state_dir=self.folder / "state",
            program=self.program,
            terraform_version="Terraform v1",
            environ={"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environ},
            read_snapshot=lambda provision, at: parse_snapshot(provision.snapshot_json),
            name="bench",
            **self.extra,  # type: ignore[arg-type]
        )

    def templates(self, **templates: str) -> None:
        """Make the repository, with these templates beside ``hello``."""
        (self.folder / "repo").mkdir(parents=True)
        self.repo = template_repo(self.folder / "repo", **templates)

    def wrap(self, script: str) -> None:
        """Let Terraform be started by a shell script, with ``$real`` for Terraform itself."""
        path = self.folder / "terraform"
        path.write_text(f'#!/bin/sh\nreal={PROGRAM}\n{script}\nexec $real "$@"\n')
        path.chmod(0o755)
        self.program = str(path)

    def provision(
        self,
        template: str,
        *,
        operation: Operation = Operation.APPLY,
        stack: str = "stack",
        **more: object,
    ) -> Provision:
        """Return a claimed provision; *more* are further keys of its configuration."""
        self.made += 1
        source = {"repo": self.repo, "version": "v1", "path": template}
        return Provision(
            Lease(ProvisionId(f"00000000-0000-4000-8000-{self.made:012}"), 1, AgentId("agent")),
            ClusterId("cluster"),
            operation,
            stack,
            simplejson.dumps({"template_source": source, **more}),
            None,
        )

    @asynccontextmanager
    async def held(
        self, provision: Provision, said: Said
    ) -> AsyncIterator[tuple[HeldLease, LeaseKeeper]]:
        """Hold a lease until the block ends, with a heartbeat every tenth of a second."""
        self.equipment.make_folders()
        keeper = LeaseKeeper(said.beat, interval_s=0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keeper.run)
            with keeper.hold(provision.lease, claimed_at=anyio.current_time()) as held:
                yield held, keeper
            tasks.cancel_scope.cancel()

    async def run(self, provision: Provision, said: Said | None = None) -> Said:
        """Run an attempt to its end."""
        said = said or Said()
        async with self.held(provision, said) as (held, keeper):
            attempt = Attempt(
                provision, held, keeper=keeper, control=said, equipment=self.equipment
            )
            await attempt.run()
        return said

    async def resume(self, record: AttemptRecord, said: Said | None = None) -> Said:
        """Take an attempt up again, with the log that its first agent left."""
        said = said or Said()
        async with self.held(record.provision, said) as (held, keeper):
            held.phase = record.phase
            attempt = Attempt(
                record.provision,
                held,
                keeper=keeper,
                control=said,
                equipment=self.equipment,
                record=record,
            )
            await attempt.resume()
        return said

    def doomed(self, provision: Provision) -> "subprocess.Popen[bytes]":
        """Run an attempt in an agent of its own, which a test will kill."""
        AttemptRecord(provision, started_at=time.time()).save(self.folder)
        (record,) = self.folder.glob("*.json")
        record.rename(self.folder / "record.json")
        return subprocess.Popen(
            [sys.executable, "-m", "tests.integration.attempts", str(self.folder), self.program]
        )

    def living(self) -> list[str]:
        """Return the command lines of what steps have started and left running."""
        marked = f"PROVISION_STEP_DIR={self.folder}/".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if marked in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it ended meanwhile
                continue
        return found


class _Deaf(Said):
    """Takes heartbeats and no log: all of it is left for whoever takes the attempt up."""

    async def append_chunks(self, lease: Lease, first_seq: int, chunks: Sequence[Chunk]) -> Ack:
        raise Unavailable("this control plane takes no logs")


async def _main(folder: Path, program: str) -> None:
    record = AttemptRecord.load(folder / "record.json")
    await Bench(folder, program=program).run(record.provision, _Deaf())


if __name__ == "__main__":
    anyio.run(_main, Path(sys.argv[1]), sys.argv[2])
