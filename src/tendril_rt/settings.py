"""Every setting of the agent: one frozen dataclass per component, with units in the names.

A field's metadata names its environment variable and says what it is for; ``docs/settings.md`` is
generated from it and a test keeps the two equal. Parsed in ``cli`` only, by :func:`from_env`;
everything else gets the frozen values. No globals.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tendril_rt import parsing
from tendril_rt.errors import ConfigError
from tendril_rt.model import ENDING, ClusterId

Component = TypeVar(
    "Component", bound="ControlSettings | AgentSettings | RunnerSettings | LogSettings"
)


@dataclass(frozen=True, slots=True)
class Variable:
    """The environment variable behind a field."""

    name: str
    parse: Callable[[str], object]
    doc: str
    secret: bool = False


def variable_of(item: dataclasses.Field[object]) -> Variable:
    """Return the environment variable behind a settings field."""
    variable = item.metadata["variable"]
    assert isinstance(variable, Variable)  # noqa: S101 - tells mypy; every field is made by _from
    return variable


def _from(
    name: str, parse: Callable[[str], object], doc: str, *, secret: bool = False
) -> dict[str, Variable]:
    return {"variable": Variable(name, parse, doc, secret)}


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """How to reach the control plane, and as whom."""

    cluster_id: ClusterId = field(
        metadata=_from(
            "TENDRIL_CLUSTER_ID",
            parsing.cluster_id,
            "UUID of the cluster, printed when it was registered",
        )
    )
    api_token: str = field(
        repr=False,
        metadata=_from(
            "TENDRIL_API_TOKEN",
            parsing.secret,
            "the cluster's token, shown once at registration; only its sha256 is ever sent",
            secret=True,
        ),
    )
    url: str = field(
        metadata=_from(
            "SUPABASE_URL", parsing.url, "base URL of the Supabase project, without a path"
        )
    )
    api_key: str = field(
        repr=False,
        metadata=_from(
            "SUPABASE_KEY",
            parsing.secret,
            "the project's anon (publishable) API key",
            secret=True,
        ),
    )
    request_timeout_s: float = field(
        default=10.0,
        metadata=_from(
            "TENDRIL_REQUEST_TIMEOUT_S",
            parsing.request_timeout_s,
            "longest wait for one answer, in seconds; at most 60",
        ),
    )
    realtime: bool = field(
        default=True,
        metadata=_from(
            "TENDRIL_REALTIME", parsing.flag, "listen for wakeups; false leaves polling alone"
        ),
    )


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """When the agent asks, how much it takes on, how it stops, and how it is watched."""

    state_dir: Path = field(
        default=Path("/var/lib/tendril"),
        metadata=_from(
            "TENDRIL_STATE_DIR",
            parsing.absolute_path,
            "spools, the agent's identity and local Terraform state; must survive a restart",
        ),
    )
    capacity: int = field(
        default=4,
        metadata=_from(
            "TENDRIL_CAPACITY",
            parsing.count,
            "provisions run at once by this agent; the cluster's own limit holds as well",
        ),
    )
    poll_interval_s: float = field(
        default=5.0,
        metadata=_from(
            "TENDRIL_POLL_INTERVAL_S",
            parsing.poll_interval_s,
            "seconds between polls, ± 20 %, whatever push does",
        ),
    )
    heartbeat_interval_s: float = field(
        default=30.0,
        metadata=_from(
            "TENDRIL_HEARTBEAT_INTERVAL_S",
            parsing.heartbeat_interval_s,
            "seconds between heartbeats; a lease lives for 90 s after the last one",
        ),
    )
    grace_s: float = field(
        default=1800.0,
        metadata=_from(
            "TENDRIL_GRACE_S",
            parsing.grace,
            "seconds from SIGTERM to SIGKILL (terminationGracePeriodSeconds); Terraform is "
            f"interrupted {ENDING.total_s:g} s before its end ({ENDING}), so it is at least that",
        ),
    )
    install_id: str = field(
        default="",
        metadata=_from(
            "TENDRIL_INSTALL_ID",
            parsing.install_id,
            "told with each heartbeat, so that whoever installed this agent knows it by it "
            "(`grape bootstrap`); at most 100 characters",
        ),
    )
    health_port: int = field(
        default=0,
        metadata=_from(
            "TENDRIL_HEALTH_PORT",
            parsing.port_or_off,
            "port of /livez, /readyz and /metrics (docs/operations.md); 0 opens none",
        ),
    )
    health_host: str = field(
        default="127.0.0.1",
        metadata=_from(
            "TENDRIL_HEALTH_HOST",
            parsing.ip_address,
            "address that port listens on; a pod needs 0.0.0.0 or ::, since the kubelet asks from "
            "outside",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_from(
            "TENDRIL_LOG_LEVEL",
            parsing.one_of("debug", "info", "warning", "error"),
            "least severity of the agent's own log: debug, info, warning or error",
        ),
    )
    log_format: str = field(
        default="console",
        metadata=_from(
            "TENDRIL_LOG_FORMAT",
            parsing.one_of("console", "json"),
            "the agent's own log as text for people (console) or one JSON object a line (json)",
        ),
    )

    @property
    def drain_s(self) -> float:
        """Seconds that running provisions have to end by themselves after SIGTERM."""
        return self.grace_s - ENDING.total_s


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Where and with which programs a provision runs."""

    workspace_dir: Path = field(
        default=Path("/tmp/tendril"),  # noqa: S108 - made 0700, one private folder per provision
        metadata=_from(
            "TENDRIL_WORKSPACE_DIR",
            parsing.absolute_path,
            "parent of the private folder of each provision",
        ),
    )
    terraform: str = field(
        default="auto",
        metadata=_from(
            "TENDRIL_TERRAFORM",
            str,
            "program to run: auto (terraform, else tofu, from PATH), or a name or path",
        ),
    )
    allow_file_repos: bool = field(
        default=False,
        metadata=_from(
            "TENDRIL_ALLOW_FILE_REPOS",
            parsing.flag,
            "also clone templates from this machine's own disk (file://…)",
        ),
    )
    require_configuration_hash: bool = field(
        default=False,
        metadata=_from(
            "TENDRIL_REQUIRE_CONFIGURATION_HASH",
            parsing.flag,
            "refuse provisions that carry no configuration_hash",
        ),
    )
    trusted_keys: tuple[bytes, ...] = field(
        default=(),
        metadata=_from(
            "TENDRIL_TRUSTED_KEYS",
            parsing.public_keys,
            "Ed25519 public keys (base64, separated by commas) as 'grape keygen' prints them; when "
            "set, only provisions signed by one of them run",
        ),
    )
    pass_env: tuple[str, ...] = field(
        default=(),
        metadata=_from(
            "TENDRIL_PASS_ENV",
            parsing.comma_separated,
            "further variables handed to git and Terraform, separated by commas; a trailing * "
            "matches any ending",
        ),
    )
    git_timeout_s: float = field(
        default=300.0,
        metadata=_from(
            "TENDRIL_GIT_TIMEOUT_S",
            parsing.positive,
            "longest time for fetching a template, in seconds",
        ),
    )
    git_credentials_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_CREDENTIALS_FILE",
            parsing.absolute_path,
            "file of https://user:token@host lines, one per host or path, that git may use; read "
            "anew for every template; unreadable for others",
        ),
    )
    git_ssh_key_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_SSH_KEY_FILE",
            parsing.absolute_path,
            "private key for templates fetched over ssh",
        ),
    )
    git_known_hosts_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_KNOWN_HOSTS_FILE",
            parsing.absolute_path,
            "keys of the ssh hosts that may be spoken to; a host with an unknown key is refused",
        ),
    )
    git_max_bytes: int = field(
        default=1024**3,
        metadata=_from(
            "TENDRIL_GIT_MAX_BYTES",
            parsing.byte_count,
            "a fetch that brings more bytes than this is stopped",
        ),
    )
    git_cache_max_bytes: int = field(
        default=2 * 1024**3,
        metadata=_from(
            "TENDRIL_GIT_CACHE_MAX_BYTES",
            parsing.byte_count,
            "bytes of fetched repositories that are kept for the next time; 0 keeps none",
        ),
    )
    workspace_max_bytes: int = field(
        default=10 * 1024**3,
        metadata=_from(
            "TENDRIL_WORKSPACE_MAX_BYTES",
            parsing.byte_count,
            "a provision that fills its private folder with more bytes than this is stopped",
        ),
    )
    disk_floor_bytes: int = field(
        default=512 * 1024**2,
        metadata=_from(
            "TENDRIL_DISK_FLOOR_BYTES",
            parsing.byte_count,
            "nothing is claimed while a disk that runs need has fewer bytes free",
        ),
    )
    init_timeout_s: float = field(
        default=900.0,
        metadata=_from(
            "TENDRIL_INIT_TIMEOUT_S",
            parsing.positive,
            "longest terraform init, in seconds; then it is interrupted. A configuration's own "
            "timeouts.init_s may be shorter; so with the three below",
        ),
    )
    plan_timeout_s: float = field(
        default=3600.0,
        metadata=_from(
            "TENDRIL_PLAN_TIMEOUT_S", parsing.positive, "longest terraform plan, in seconds"
        ),
    )
    apply_timeout_s: float = field(
        default=14400.0,
        metadata=_from(
            "TENDRIL_APPLY_TIMEOUT_S",
            parsing.positive,
            "longest terraform apply, in seconds; then it is interrupted once, and waited for",
        ),
    )
    provision_timeout_s: float = field(
        default=21600.0,
        metadata=_from(
            "TENDRIL_PROVISION_TIMEOUT_S",
            parsing.positive,
            "longest attempt as a whole, from the claim, in seconds",
        ),
    )
    plugin_cache_dir: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_PLUGIN_CACHE_DIR",
            parsing.absolute_path,
            "keep downloaded providers there, for this agent alone; terraform init then runs one "
            "at a time. Without it and a mirror, TF_CLI_CONFIG_FILE of the environment holds",
        ),
    )
    plugin_mirror_dir: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_PLUGIN_MIRROR_DIR",
            parsing.absolute_path,
            "take the providers that this folder holds (terraform providers mirror) from it alone",
        ),
    )
    default_backend_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_DEFAULT_BACKEND_FILE",
            parsing.absolute_path,
            "a file with a terraform block and a backend, for templates that have none; __STACK__ "
            "in it becomes the stack's own name. Without it their state is kept in "
            "TENDRIL_STATE_DIR",
        ),
    )
    cost_estimate: bool = field(
        default=False,
        metadata=_from(
            "TENDRIL_COST_ESTIMATE",
            parsing.flag,
            "estimate the cost of every provision, not only where its configuration asks for it; "
            "needs infracost on PATH and INFRACOST_API_KEY",
        ),
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much output may wait on disk for the control plane, and for how long."""

    spool_max_bytes: int = field(
        default=64 * 1024 * 1024,
        metadata=_from(
            "TENDRIL_SPOOL_MAX_BYTES",
            parsing.spool_bytes,
            "bytes of one provision's output that may wait on disk to be delivered; beyond, its "
            "middle is left out, visibly",
        ),
    )
    spool_total_max_bytes: int = field(
        default=1024 * 1024 * 1024,
        metadata=_from(
            "TENDRIL_SPOOL_TOTAL_MAX_BYTES",
            parsing.spool_bytes,
            "the same for all provisions together, with what earlier runs could not deliver",
        ),
    )
    spool_keep_s: float = field(
        default=7 * 86400.0,
        metadata=_from(
            "TENDRIL_SPOOL_KEEP_S",
            parsing.positive,
            "seconds that output which could not be delivered is kept after its last change",
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    control: ControlSettings
    agent: AgentSettings
    runner: RunnerSettings
    logs: LogSettings


def from_env(environ: Mapping[str, str]) -> Settings:
    """Parse and validate; unknown variables are left alone, empty ones count as absent.

    :raises ConfigError: lists every problem, each with the variable and the cure
    """
    problems: list[str] = []
    control = _parse(ControlSettings, environ, problems)
    agent = _parse(AgentSettings, environ, problems)
    runner = _parse(RunnerSettings, environ, problems)
    logs = _parse(LogSettings, environ, problems)
    if problems or control is None or agent is None or runner is None or logs is None:
        raise ConfigError(*problems)
    return Settings(control, agent, runner, logs)


def _parse(
    component: type[Component], environ: Mapping[str, str], problems: list[str]
) -> Component | None:
    values: dict[str, object] = {}
    before = len(problems)
    for item in dataclasses.fields(component):
        variable = variable_of(item)
        text = environ.get(variable.name, "").strip()
        if not text:
            if item.default is dataclasses.MISSING:
                problems.append(f"{variable.name} is not set: {variable.doc}")
            continue
        try:
            values[item.name] = variable.parse(text)
        except ValueError as exc:
            problems.append(f"{variable.name} {exc}")
    return component(**values) if len(problems) == before else None  # type: ignore[arg-type]
