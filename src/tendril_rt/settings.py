"""Every setting of the agent: one frozen dataclass per component, with units in the names.

A field's metadata names its environment variable and says what it is for; ``docs/settings.md`` is
generated from it and a test keeps the two equal. Parsed in ``cli`` only, by :func:`from_env`;
everything else gets the frozen values. No globals.
"""

import base64
import dataclasses
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tendril_rt.errors import ConfigError
from tendril_rt.model import ClusterId

#: Two answers may be lost before a lease of 90 s runs out.
_MAX_HEARTBEAT_INTERVAL_S = 40.0
_MIN_POLL_INTERVAL_S = 0.05
_PUBLIC_KEY_BYTES = 32
#: A lease must outlive one lost answer and the retry after it.
_MAX_REQUEST_TIMEOUT_S = 60.0

Component = TypeVar("Component", bound="ControlSettings | AgentSettings | RunnerSettings")


def _cluster_id(text: str) -> ClusterId:
    try:
        return ClusterId(str(uuid.UUID(text)))
    except ValueError:
        raise ValueError("must be the UUID that registering the cluster printed") from None


def parse_url(text: str) -> str:
    """Return the base URL of a Supabase project without its last slash.

    :raises ValueError: it is none; the text goes on from the variable's name
    """
    wanted = "must be a URL without a path, such as https://<project>.supabase.co"
    try:
        parts = urlsplit(text)
        is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        if parts.scheme in ("http", "https") and parts.hostname and is_bare and parts.port != 0:
            return text.rstrip("/")
    except ValueError as exc:  # a port that is no number, an unclosed bracket
        raise ValueError(f"{wanted} ({exc})") from None
    raise ValueError(wanted)


def parse_secret(text: str) -> str:
    """Return a key or token that can stand in an HTTP header.

    :raises ValueError: it cannot; the text goes on from the variable's name
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces: was it copied whole?")
    return text


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise ValueError(f"must be a number above 0, not {text!r}")
    return value


def _poll_interval(text: str) -> float:
    value = _positive(text)
    if value < _MIN_POLL_INTERVAL_S:
        raise ValueError(f"is {value:g}: less than {_MIN_POLL_INTERVAL_S:g} s would be a flood")
    return value


def _request_timeout(text: str) -> float:
    value = _positive(text)
    if value > _MAX_REQUEST_TIMEOUT_S:
        raise ValueError(
            f"is {value:g}: waiting more than {_MAX_REQUEST_TIMEOUT_S:g} s for one answer would "
            "let leases (90 s) lapse"
        )
    return value


def _grace(text: str) -> float:
    value = _positive(text)
    if value < ENDING.total_s:
        raise ValueError(
            f"is {value:g}: ending takes up to {ENDING.total_s:g} s ({ENDING}). Raise it together "
            "with terminationGracePeriodSeconds"
        )
    return value


def _port_or_off(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(f"must be a port from 1 to 65535, or 0 for none, not {text!r}")
    return int(text)


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"must be an IP address to listen on, not {text!r}") from None


def _heartbeat_interval(text: str) -> float:
    value = _positive(text)
    if value > _MAX_HEARTBEAT_INTERVAL_S:
        raise ValueError(
            f"is {value:g}: more than {_MAX_HEARTBEAT_INTERVAL_S:g} s would let leases (90 s) "
            "lapse after one lost answer"
        )
    return value


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ValueError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def _byte_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"must be a whole number of bytes, not {text!r}")
    return int(text)


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise ValueError(f"must be true or false, not {text!r}") from None


def _absolute(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {text!r}")
    return path


def _public_keys(text: str) -> tuple[bytes, ...]:
    keys = []
    for name in _names(text):
        try:
            key = base64.b64decode(name, validate=True)
        except ValueError:
            key = b""
        if len(key) != _PUBLIC_KEY_BYTES:
            raise ValueError(
                f"must hold base64 of 32 bytes each, as 'grape keygen' prints; {name[:60]!r} is not"
            )
        keys.append(key)
    return tuple(keys)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return parse


@dataclass(frozen=True, slots=True)
class Ending:
    """What the end of the grace is kept for, after draining, in seconds.

    One budget: the service interrupts Terraform :attr:`total_s` before the grace ends, the attempt
    gives its log :attr:`deliver_s`, and a grace that does not hold them all is refused.

    :ivar stop_s: for Terraform to end after its interrupt (a plan: 30 s, then it is killed)
    :ivar deliver_s: for what is left of the log; after that it stays in the spool
    :ivar exit_s: to report the outcome and exit
    """

    stop_s: float
    deliver_s: float
    exit_s: float

    @property
    def total_s(self) -> float:
        return self.stop_s + self.deliver_s + self.exit_s

    def __str__(self) -> str:
        return (
            f"{self.stop_s:g} s to stop Terraform + {self.deliver_s:g} s to deliver its log + "
            f"{self.exit_s:g} s to report and exit"
        )


ENDING = Ending(stop_s=45.0, deliver_s=60.0, exit_s=15.0)


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
            "TENDRIL_CLUSTER_ID", _cluster_id, "UUID of the cluster, printed when it was registered"
        )
    )
    api_token: str = field(
        repr=False,
        metadata=_from(
            "TENDRIL_API_TOKEN",
            parse_secret,
            "the cluster's token, shown once at registration; only its sha256 is ever sent",
            secret=True,
        ),
    )
    url: str = field(
        metadata=_from(
            "SUPABASE_URL", parse_url, "base URL of the Supabase project, without a path"
        )
    )
    api_key: str = field(
        repr=False,
        metadata=_from(
            "SUPABASE_KEY", parse_secret, "the project's anon (publishable) API key", secret=True
        ),
    )
    request_timeout_s: float = field(
        default=10.0,
        metadata=_from(
            "TENDRIL_REQUEST_TIMEOUT_S",
            _request_timeout,
            "longest wait for one answer, in seconds; at most 60",
        ),
    )
    realtime: bool = field(
        default=True,
        metadata=_from("TENDRIL_REALTIME", _flag, "listen for wakeups; false leaves polling alone"),
    )


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """When the agent asks, how much it takes on, how it stops, and how it is watched."""

    state_dir: Path = field(
        default=Path("/var/lib/tendril"),
        metadata=_from(
            "TENDRIL_STATE_DIR",
            _absolute,
            "spools, the agent's identity and local Terraform state; must survive a restart",
        ),
    )
    capacity: int = field(
        default=4,
        metadata=_from(
            "TENDRIL_CAPACITY",
            _count,
            "provisions run at once by this agent; the cluster's own limit holds as well",
        ),
    )
    poll_interval_s: float = field(
        default=5.0,
        metadata=_from(
            "TENDRIL_POLL_INTERVAL_S",
            _poll_interval,
            "seconds between polls, ± 20 %, whatever push does",
        ),
    )
    heartbeat_interval_s: float = field(
        default=30.0,
        metadata=_from(
            "TENDRIL_HEARTBEAT_INTERVAL_S",
            _heartbeat_interval,
            "seconds between heartbeats; a lease lives for 90 s after the last one",
        ),
    )
    grace_s: float = field(
        default=1800.0,
        metadata=_from(
            "TENDRIL_GRACE_S",
            _grace,
            "seconds from SIGTERM to SIGKILL (terminationGracePeriodSeconds); Terraform is "
            f"interrupted {ENDING.total_s:g} s before its end ({ENDING}), so it is at least that",
        ),
    )
    health_port: int = field(
        default=0,
        metadata=_from(
            "TENDRIL_HEALTH_PORT",
            _port_or_off,
            "port of /livez, /readyz and /metrics (docs/operations.md); 0 opens none",
        ),
    )
    health_host: str = field(
        default="127.0.0.1",
        metadata=_from(
            "TENDRIL_HEALTH_HOST",
            _host,
            "address that port listens on; a pod needs 0.0.0.0 or ::, since the kubelet asks from "
            "outside",
        ),
    )
    log_level: str = field(
        default="info",
        metadata=_from(
            "TENDRIL_LOG_LEVEL",
            _one_of("debug", "info", "warning", "error"),
            "least severity of the agent's own log: debug, info, warning or error",
        ),
    )
    log_format: str = field(
        default="console",
        metadata=_from(
            "TENDRIL_LOG_FORMAT",
            _one_of("console", "json"),
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
            "TENDRIL_WORKSPACE_DIR", _absolute, "parent of the private folder of each provision"
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
            _flag,
            "also clone templates from this machine's own disk (file://…)",
        ),
    )
    require_configuration_hash: bool = field(
        default=False,
        metadata=_from(
            "TENDRIL_REQUIRE_CONFIGURATION_HASH",
            _flag,
            "refuse provisions that carry no configuration_hash",
        ),
    )
    trusted_keys: tuple[bytes, ...] = field(
        default=(),
        metadata=_from(
            "TENDRIL_TRUSTED_KEYS",
            _public_keys,
            "Ed25519 public keys (base64, separated by commas) as 'grape keygen' prints them; when "
            "set, only provisions signed by one of them run",
        ),
    )
    pass_env: tuple[str, ...] = field(
        default=(),
        metadata=_from(
            "TENDRIL_PASS_ENV",
            _names,
            "further variables handed to git and Terraform, separated by commas; a trailing * "
            "matches any ending",
        ),
    )
    git_timeout_s: float = field(
        default=300.0,
        metadata=_from(
            "TENDRIL_GIT_TIMEOUT_S", _positive, "longest time for fetching a template, in seconds"
        ),
    )
    git_credentials_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_CREDENTIALS_FILE",
            _absolute,
            "file of https://user:token@host lines, one per host or path, that git may use; read "
            "anew for every template; unreadable for others",
        ),
    )
    git_ssh_key_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_SSH_KEY_FILE", _absolute, "private key for templates fetched over ssh"
        ),
    )
    git_known_hosts_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_GIT_KNOWN_HOSTS_FILE",
            _absolute,
            "keys of the ssh hosts that may be spoken to; a host with an unknown key is refused",
        ),
    )
    git_max_bytes: int = field(
        default=1024**3,
        metadata=_from(
            "TENDRIL_GIT_MAX_BYTES",
            _byte_count,
            "a fetch that brings more bytes than this is stopped",
        ),
    )
    git_cache_max_bytes: int = field(
        default=2 * 1024**3,
        metadata=_from(
            "TENDRIL_GIT_CACHE_MAX_BYTES",
            _byte_count,
            "bytes of fetched repositories that are kept for the next time; 0 keeps none",
        ),
    )
    workspace_max_bytes: int = field(
        default=10 * 1024**3,
        metadata=_from(
            "TENDRIL_WORKSPACE_MAX_BYTES",
            _byte_count,
            "a provision that fills its private folder with more bytes than this is stopped",
        ),
    )
    disk_floor_bytes: int = field(
        default=512 * 1024**2,
        metadata=_from(
            "TENDRIL_DISK_FLOOR_BYTES",
            _byte_count,
            "nothing is claimed while a disk that runs need has fewer bytes free",
        ),
    )
    init_timeout_s: float = field(
        default=900.0,
        metadata=_from(
            "TENDRIL_INIT_TIMEOUT_S",
            _positive,
            "longest terraform init, in seconds; then it is interrupted. A configuration's own "
            "timeouts.init_s may be shorter; so with the three below",
        ),
    )
    plan_timeout_s: float = field(
        default=3600.0,
        metadata=_from("TENDRIL_PLAN_TIMEOUT_S", _positive, "longest terraform plan, in seconds"),
    )
    apply_timeout_s: float = field(
        default=14400.0,
        metadata=_from(
            "TENDRIL_APPLY_TIMEOUT_S",
            _positive,
            "longest terraform apply, in seconds; then it is interrupted once, and waited for",
        ),
    )
    provision_timeout_s: float = field(
        default=21600.0,
        metadata=_from(
            "TENDRIL_PROVISION_TIMEOUT_S",
            _positive,
            "longest attempt as a whole, from the claim, in seconds",
        ),
    )
    plugin_cache_dir: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_PLUGIN_CACHE_DIR",
            _absolute,
            "keep downloaded providers there, for this agent alone; terraform init then runs one "
            "at a time. Without it and a mirror, TF_CLI_CONFIG_FILE of the environment holds",
        ),
    )
    plugin_mirror_dir: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_PLUGIN_MIRROR_DIR",
            _absolute,
            "take the providers that this folder holds (terraform providers mirror) from it alone",
        ),
    )
    default_backend_file: Path | None = field(
        default=None,
        metadata=_from(
            "TENDRIL_DEFAULT_BACKEND_FILE",
            _absolute,
            "a file with a terraform block and a backend, for templates that have none; __STACK__ "
            "in it becomes the stack's own name. Without it their state is kept in "
            "TENDRIL_STATE_DIR",
        ),
    )
    cost_estimate: bool = field(
        default=False,
        metadata=_from(
            "TENDRIL_COST_ESTIMATE",
            _flag,
            "estimate the cost of every provision, not only where its configuration asks for it; "
            "needs infracost on PATH and INFRACOST_API_KEY",
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All of them."""

    control: ControlSettings
    agent: AgentSettings
    runner: RunnerSettings


def from_env(environ: Mapping[str, str]) -> Settings:
    """Parse and validate; unknown variables are left alone, empty ones count as absent.

    :raises ConfigError: lists every problem, each with the variable and the cure
    """
    problems: list[str] = []
    control = _parse(ControlSettings, environ, problems)
    agent = _parse(AgentSettings, environ, problems)
    runner = _parse(RunnerSettings, environ, problems)
    if problems or control is None or agent is None or runner is None:
        raise ConfigError(*problems)
    return Settings(control, agent, runner)


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
