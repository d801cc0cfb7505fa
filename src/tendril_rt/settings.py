"""Every setting of the agent: one frozen dataclass per component, with units in the names.

A field's metadata names its environment variable and says what it is for; ``docs/settings.md`` is
generated from it and a test keeps the two equal. Parsed in ``cli`` only, by :func:`from_env`;
everything else gets the frozen values. No globals.
"""

import dataclasses
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
_MIN_SPOOL_BYTES = 1024 * 1024  # below, a batch on its way would be most of it

Component = TypeVar(
    "Component", bound="ControlSettings | AgentSettings | RunnerSettings | LogSettings"
)


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


def _bytes(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < _MIN_SPOOL_BYTES:
        raise ValueError(f"must be a number of bytes from {_MIN_SPOOL_BYTES} (1 MiB), not {text!r}")
    return int(text)


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise ValueError(f"must be true or false, not {text!r}") from None


def _folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {text!r}")
    return path


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return parse


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
            "TENDRIL_REQUEST_TIMEOUT_S", _positive, "longest wait for one answer, in seconds"
        ),
    )
    realtime: bool = field(
        default=True,
        metadata=_from("TENDRIL_REALTIME", _flag, "listen for wakeups; false leaves polling alone"),
    )


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """When the agent asks, how much it takes on, and how it stops."""

    state_dir: Path = field(
        default=Path("/var/lib/tendril"),
        metadata=_from(
            "TENDRIL_STATE_DIR",
            _folder,
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
            _positive,
            "seconds from SIGTERM to SIGKILL (terminationGracePeriodSeconds); Terraform is "
            "interrupted 120 s before its end",
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


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Where and with which programs a provision runs."""

    workspace_dir: Path = field(
        default=Path("/tmp/tendril"),  # noqa: S108 - made 0700, one private folder per provision
        metadata=_from(
            "TENDRIL_WORKSPACE_DIR", _folder, "parent of the private folder of each provision"
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


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much output may wait on disk for the control plane, and for how long."""

    spool_max_bytes: int = field(
        default=64 * 1024 * 1024,
        metadata=_from(
            "TENDRIL_SPOOL_MAX_BYTES",
            _bytes,
            "bytes of one provision's output that may wait on disk to be delivered; beyond, its "
            "middle is left out, visibly",
        ),
    )
    spool_total_max_bytes: int = field(
        default=1024 * 1024 * 1024,
        metadata=_from(
            "TENDRIL_SPOOL_TOTAL_MAX_BYTES",
            _bytes,
            "the same for all provisions together, with what earlier runs could not deliver",
        ),
    )
    spool_keep_s: float = field(
        default=7 * 86400.0,
        metadata=_from(
            "TENDRIL_SPOOL_KEEP_S",
            _positive,
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
