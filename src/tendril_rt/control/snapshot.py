"""A provision's ``config_snapshot``: read without losing a digit, checked, hashed.

Pure. Numbers are never converted on their way to Terraform: the variables are passed on as the very
text that arrived. Whatever the text is, the answer is a :class:`Snapshot` or a
:class:`SnapshotError` that names the field; values are never repeated, since they may be secret.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated

import rfc8785
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
)

from tendril_rt.control import exact_json
from tendril_rt.control.exact_json import Number
from tendril_rt.errors import SnapshotError
from tendril_rt.model import Snapshot, TemplateSource, Timeouts

_MAX_EXACT_INTEGER = 2**53 - 1  # RFC 8785 has no integers beyond it
_MAX_SECONDS = 1e9
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def parse_snapshot(text: str) -> Snapshot:
    """Return the validated snapshot; unknown keys are allowed and ignored.

    :raises SnapshotError: names the field, what is wrong with it and what it should be
    """
    value = exact_json.load(text)
    if not isinstance(value, dict):
        raise SnapshotError("config_snapshot must be a JSON object with a template_source")
    try:
        parsed = _Snapshot.model_validate(value)
    except ValidationError as exc:
        faults = "; ".join(
            f"{_path(fault['loc'])}: {fault.get('ctx', {}).get('error', fault['msg'])}"
            for fault in exc.errors(include_input=False, include_url=False)
        )
        raise SnapshotError(
            f"the provision's configuration is malformed: {faults}. Correct it and submit it again"
        ) from exc
    _check_sensitive(parsed.sensitive or [], parsed.terraform_vars or {})
    source = parsed.template_source
    given = parsed.timeouts or _Timeouts()
    variables = exact_json.member(text, "terraform_vars") if parsed.terraform_vars else "{}"
    return Snapshot(
        template=TemplateSource(source.repo, source.version, source.path or ""),
        terraform_vars_json=variables,
        backend_config=parsed.backend_config or {},
        sensitive=frozenset(parsed.sensitive or ()),
        timeouts=Timeouts(given.init_s, given.plan_s, given.apply_s, given.provision_s),
        cost_estimate=parsed.cost_estimate or False,
    )


def snapshot_hash(text: str) -> str:
    """Return the sha256 (hex) of the RFC 8785 form of the JSON *text*.

    That form holds numbers as IEEE doubles: fractions that round to the same double hash the same.

    :raises SnapshotError: it holds a number that RFC 8785 cannot express, named by its path
    """
    try:
        canonical = rfc8785.dumps(_as_doubles(exact_json.load(text), "config_snapshot"))  # type: ignore[arg-type]
    except rfc8785.CanonicalizationError as exc:
        raise SnapshotError(f"the provision's configuration has no RFC 8785 form: {exc}") from exc
    return hashlib.sha256(canonical).hexdigest()


def check_hash(text: str, claimed: str | None, *, required: bool) -> None:
    """Compare a snapshot with the hash its submitter made.

    :raises SnapshotError: the hash differs, or is absent where *required*
    """
    if claimed is None:
        if required:
            raise SnapshotError(
                "the provision carries no configuration_hash and this agent requires one "
                "(TENDRIL_REQUIRE_CONFIGURATION_HASH): submit it with a client that makes one"
            )
        return
    actual = snapshot_hash(text)
    if actual != claimed.lower():
        raise SnapshotError(
            f"configuration_hash is {claimed[:64]!a} but the configuration's RFC 8785 sha256 is "
            f"{actual}: it was changed after it was submitted, or hashed by other rules"
        )


def _name(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError(f"{value[:100]!a} is not the name of a Terraform variable or setting")
    return value


def _backend_value(value: object) -> str:
    """Return a setting as the text that a backend file holds; numbers as they were written."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Number):
        return value.text
    raise ValueError(
        "must be text, a number, true or false: put nested settings into the template's own "
        "backend block"
    )


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    seconds = float(value.text) if isinstance(value, Number) else 0.0
    if not 0 < seconds < _MAX_SECONDS:
        raise ValueError("must be a number of seconds above 0")
    return seconds


_Name = Annotated[str, BeforeValidator(_name)]
_Seconds = Annotated[float | None, BeforeValidator(_seconds)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", arbitrary_types_allowed=True)


class _Template(_Lenient):
    repo: StrictStr = Field(min_length=1)
    version: StrictStr = Field(min_length=1)
    path: StrictStr | None = None


class _Timeouts(_Lenient):
    init_s: _Seconds = None
    plan_s: _Seconds = None
    apply_s: _Seconds = None
    provision_s: _Seconds = None


class _Snapshot(_Lenient):
    template_source: _Template
    terraform_vars: dict[_Name, object] | None = None
    sensitive: list[StrictStr] | None = None
    backend_config: dict[_Name, Annotated[str, BeforeValidator(_backend_value)]] | None = None
    timeouts: _Timeouts | None = None
    cost_estimate: StrictBool | None = None


def _check_sensitive(names: list[str], variables: Mapping[str, object]) -> None:
    """Refuse a name that hides nothing: misspelt, it would leave the real secret in the log."""
    unknown = sorted(set(names) - set(variables))
    if unknown:
        raise SnapshotError(
            f"config_snapshot.sensitive names {unknown[0][:100]!a}, which is not among "
            "terraform_vars: correct the name, or leave it out"
        )


def _path(location: tuple[int | str, ...]) -> str:
    """Return where a fault lies, for example ``config_snapshot.sensitive.0``."""
    parts = [str(part)[:100] for part in location if part != "[key]"]
    return ".".join(["config_snapshot", *parts])


def _as_doubles(value: object, path: str) -> object:
    """Return *value* with the numbers that RFC 8785 knows.

    :raises SnapshotError: an integer beyond ±(2^53-1), or a number beyond every double
    """
    if isinstance(value, dict):
        return {name: _as_doubles(item, f"{path}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, Number):
        return value
    number = float(value.text)
    if abs(number) == float("inf") or (value.is_integer and abs(number) > _MAX_EXACT_INTEGER):
        kind = "an integer beyond ±(2^53-1)" if value.is_integer else "a number beyond 1.8e308"
        raise SnapshotError(
            f"{path} is {kind}, which a configuration_hash cannot cover (RFC 8785): send it as a "
            "string, or submit without a hash"
        )
    return int(number) if value.is_integer else number
