"""What every attempt of one agent shares: programs, folders, limits, and the turns they take."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio

from tendril_rt.control import signing, snapshot
from tendril_rt.errors import ConfigError
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.model import Provision, Snapshot
from tendril_rt.runner import cliconfig, terraform
from tendril_rt.runner.backend import read_default_backend
from tendril_rt.runner.cliconfig import CliConfig
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.steps import TimeLimits
from tendril_rt.settings import RunnerSettings, Settings


class Snapshots(Protocol):
    """Reads a provision's configuration."""

    def __call__(self, provision: Provision, *, at: float) -> Snapshot:
        """Return it, if it may be run.

        :param at: Unix seconds when the attempt began: a signature must have held then

        :raises SnapshotError: malformed, or not what its hash says
        :raises SignatureError: not signed by a trusted key
        """


@dataclass(frozen=True, slots=True)
class Equipment:
    """See the module.

    :ivar log_limits: what a spool may take, with the room that all of them share
    :ivar program: Terraform's path, *terraform_version* what it says it is
    :ivar environ: the agent's environment, of which children see an allow-list
    :ivar default_backend: text for templates without a backend; None keeps their state here
    :ivar init_turn: held by the one init that runs, where they share a plugin cache
    """

    settings: RunnerSettings
    log_limits: Limits
    state_dir: Path
    program: str
    terraform_version: str
    environ: Mapping[str, str]
    read_snapshot: Snapshots
    name: str
    cli: CliConfig = field(default_factory=lambda: CliConfig({}, shares_cache=False))
    default_backend: str | None = None
    init_turn: anyio.Lock = field(default_factory=anyio.Lock)

    @property
    def spool_dir(self) -> Path:
        return self.state_dir / "spool"

    @property
    def record_dir(self) -> Path:
        return self.state_dir / "attempts"

    @property
    def limits(self) -> TimeLimits:
        settings = self.settings
        return TimeLimits(
            settings.init_timeout_s,
            settings.plan_timeout_s,
            settings.apply_timeout_s,
            settings.provision_timeout_s,
        )

    def make_folders(self) -> None:
        """Make the folders of spools and records, mode 0700.

        :raises ConfigError: the state directory is not writable
        """
        for folder in (self.spool_dir, self.record_dir):
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            except OSError as exc:
                raise ConfigError(
                    f"TENDRIL_STATE_DIR: cannot make {folder} ({exc.strerror or exc})"
                ) from exc


async def equip(settings: Settings, environ: Mapping[str, str]) -> Equipment:
    """Find and read what attempts need.

    :raises ConfigError: a file that a setting names cannot be used
    :raises StepError: Terraform is not there
    """
    runner, state_dir = settings.runner, settings.agent.state_dir
    default_backend = read_default_backend(runner.default_backend_file)
    program = terraform.find(runner.terraform, environ.get("PATH"))
    env = child_environment(environ, runner.pass_env)
    cli = cliconfig.write(
        state_dir, cache=runner.plugin_cache_dir, mirror=runner.plugin_mirror_dir, environ=env
    )
    version = await terraform.version_of(program, cwd=state_dir, env={**env, **cli.env})
    return Equipment(
        settings=runner,
        log_limits=Limits(
            settings.logs.spool_max_bytes, Allowance(settings.logs.spool_total_max_bytes)
        ),
        state_dir=state_dir,
        program=program,
        terraform_version=version,
        environ=environ,
        read_snapshot=_SnapshotReader(runner),
        name=socket.gethostname(),
        cli=cli,
        default_backend=default_backend,
    )


@dataclass(frozen=True, slots=True)
class _SnapshotReader:
    """Checks the signature and the hash, then reads."""

    settings: RunnerSettings

    def __call__(self, provision: Provision, *, at: float) -> Snapshot:
        if self.settings.trusted_keys:
            signing.verify(provision, self.settings.trusted_keys, now=lambda: at)
        snapshot.check_hash(
            provision.snapshot_json,
            provision.configuration_hash,
            required=self.settings.require_configuration_hash,
        )
        return snapshot.parse_snapshot(provision.snapshot_json)
