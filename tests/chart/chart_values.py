"""How the agent's settings and the chart's values belong together; makes what is generated of it.

``python -m tests.chart.chart_values`` writes the part ``settings`` of
``charts/tendril/values.schema.json``, from the settings' own metadata, and ``docs/chart.md`` from
schema and values.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tendril_rt import resources
from tendril_rt.model import ENDING
from tendril_rt.settings import variable_of
from tests.unit.render_settings import COMPONENTS

ROOT = Path(__file__).parents[2]
CHART = resources.chart()
SCHEMA = CHART / "values.schema.json"
PAGE = ROOT / "docs" / "chart.md"
COMMAND = "python -m tests.chart.chart_values"

#: Settings that the chart decides, and by which value; all others stand in ``settings``.
NAMED = {
    "TENDRIL_CLUSTER_ID": "cluster.id",
    "TENDRIL_API_TOKEN": "token",
    "SUPABASE_URL": "controlPlane.url",
    "SUPABASE_KEY": "controlPlane.apiKey",
    "TENDRIL_STATE_DIR": "state.mountPath",
    "TENDRIL_GRACE_S": "terminationGracePeriodSeconds",
    "TENDRIL_HEALTH_PORT": "health.port",
    "TENDRIL_HEALTH_HOST": "health.host",
    "TENDRIL_GIT_CREDENTIALS_FILE": "git.credentialsSecret",
    "TENDRIL_GIT_SSH_KEY_FILE": "git.sshSecret",
    "TENDRIL_GIT_KNOWN_HOSTS_FILE": "git.sshSecret",
    "TENDRIL_PLUGIN_CACHE_DIR": "terraform.pluginCache",
    "TENDRIL_DEFAULT_BACKEND_FILE": "terraform.defaultBackend",
}
#: Seconds between the agent's own grace and the pod's: for the kubelet and tini.
MARGIN_S = 10
MIN_GRACE_S = int(ENDING.total_s) + MARGIN_S

_TYPES: dict[type[object], dict[str, object]] = {
    bool: {"type": ["boolean", "null"]},
    int: {"type": ["integer", "null"], "minimum": 0},
    float: {"type": ["number", "null"], "exclusiveMinimum": 0},
}
_CHOICES = {
    "TENDRIL_LOG_LEVEL": ["debug", "info", "warning", "error"],
    "TENDRIL_LOG_FORMAT": ["console", "json"],
}

_HEAD = f"""\
# Values of the chart

What `charts/tendril` takes; how to install it: [install-kubernetes.md](install-kubernetes.md).
`values.schema.json` refuses what is not listed here. This page is made from it and from
`values.yaml` by `{COMMAND}`.

| value | default | meaning |
|---|---|---|
"""
_SETTINGS_HEAD = """
## Settings of the agent

Every variable of [settings.md](settings.md) is either what the chart makes of a value of its own,
or stands in the map `settings` under its own name, with its own default. Numbers and truth values
may be written as such; `null` takes one away that a values file before had.

| variable | value |
|---|---|
"""


def fields() -> Iterator[dataclasses.Field[object]]:
    """Yield every field of the agent's settings."""
    for component in COMPONENTS:
        yield from dataclasses.fields(component)


def settings_schema() -> dict[str, object]:
    """Return the part of the schema that is about ``settings``."""
    properties = {
        variable_of(item).name: {
            "description": variable_of(item).doc,
            **_schema_of(item),
        }
        for item in fields()
        if variable_of(item).name not in NAMED
    }
    return {
        "type": "object",
        "description": "settings of the agent by the names of their variables, see below",
        "additionalProperties": False,
        "properties": dict(sorted(properties.items())),
    }


def _schema_of(item: dataclasses.Field[object]) -> dict[str, object]:
    name = variable_of(item).name
    if name in _CHOICES:
        return {"enum": [*_CHOICES[name], None]}
    if isinstance(item.type, type) and item.type in _TYPES:
        return _TYPES[item.type]
    return {"type": ["string", "null"]}


def schema() -> dict[str, Any]:
    """Return the schema as it is to be: what stands in the file, with the settings of the code."""
    written: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    written["properties"]["settings"] = settings_schema()
    written["properties"]["terminationGracePeriodSeconds"]["minimum"] = MIN_GRACE_S
    return written


def schema_text() -> str:
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def values() -> dict[str, Any]:
    """Return the chart's defaults."""
    read: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return read


def leaves(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every value that may be set, by its path, with its schema."""
    for name, item in part["properties"].items():
        here = f"{path}.{name}".lstrip(".")
        if "properties" in item and here != "settings":
            yield from leaves(item, here)
        else:
            yield here, item


def default_at(path: str) -> object:
    """Return the default of a value.

    :raises KeyError: ``values.yaml`` has no such
    """
    found: Any = values()
    for name in path.split("."):
        found = found[name]
    return found


def page() -> str:
    """Return the whole page of values."""
    rows = [
        f"| `{path}` | {_shown(default_at(path))} | {item['description'].replace('|', '&#124;')} |"
        for path, item in leaves(schema())
    ]
    named = [
        f"| `{name}` | `{NAMED.get(name, f'settings.{name}')}` |"
        for name in (variable_of(item).name for item in fields())
    ]
    return _HEAD + "\n".join(rows) + "\n" + _SETTINGS_HEAD + "\n".join(named) + "\n"


def _shown(default: object) -> str:
    if default in ("", None, [], {}):
        return "*none*"
    return (
        f"`{json.dumps(default, ensure_ascii=False) if not isinstance(default, str) else default}`"
    )


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
