"""Renders the chart with Helm's own code, and what tests ask of the outcome."""

import base64
import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import helm_python
import yaml

from tests.chart.chart_values import CHART

Object = dict[str, Any]

NAMESPACE = "garden"
CLUSTER = "1b4e28ba-2fa1-4d52-883f-0016d3cca427"
#: The least that has to be set.
MINIMAL: Object = {
    "cluster": {"id": CLUSTER},
    "controlPlane": {"url": "https://acme.supabase.co", "apiKey": "anon.key"},
    "token": "tdr_token",
}


@cache
def chart() -> helm_python.Chart:
    return helm_python.Chart.load(CHART)


def values(*overrides: Object) -> Object:
    """Return the least values with *overrides* merged in."""
    result = copy.deepcopy(MINIMAL)
    for override in overrides:
        result = _merged(result, override)
    return result


def _merged(old: Object, new: Object) -> Object:
    result = dict(old)
    for name, value in new.items():
        both = isinstance(value, dict) and isinstance(old.get(name), dict)
        result[name] = _merged(old[name], value) if both else value
    return result


def at(path: str, value: object) -> Object:
    """Return values with *value* at a path such as ``controlPlane.url``."""
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def render(*overrides: Object) -> list[Object]:
    """Return every object that the chart renders.

    :raises helm_python.HelmError: the values are refused
    """
    given = values(*overrides)
    chart().validate_schema(given)
    rendered = chart().render(given, name="agent", namespace=NAMESPACE)
    return [
        obj
        for path, text in sorted(rendered.items())
        if not path.endswith("NOTES.txt")
        for obj in yaml.safe_load_all(text)
        if obj
    ]


def notes(*overrides: Object) -> str:
    rendered = chart().render(values(*overrides), name="agent", namespace=NAMESPACE)
    return rendered["tendril/templates/NOTES.txt"]


def of_kind(objects: list[Object], kind: str) -> Object:
    """Return the one object of *kind*."""
    [found] = [obj for obj in objects if obj["kind"] == kind]
    return found


def workload(objects: list[Object]) -> Object:
    [found] = [obj for obj in objects if obj["kind"] in ("Deployment", "StatefulSet")]
    return found


def pod_specs(objects: list[Object]) -> Iterator[Object]:
    """Yield the spec of every pod that the objects make."""
    for obj in objects:
        if obj["kind"] == "Pod":
            yield obj["spec"]
        elif "template" in obj.get("spec", {}):
            yield obj["spec"]["template"]["spec"]


def environment(objects: list[Object]) -> dict[str, str]:
    """Return the variables of the agent's container, with the values of the chart's own Secret.

    :raises ValueError: one is there twice
    """
    [container] = workload(objects)["spec"]["template"]["spec"]["containers"]
    names = [entry["name"] for entry in container["env"]]
    if len(set(names)) != len(names):
        raise ValueError(f"twice: {sorted({name for name in names if names.count(name) > 1})}")
    return {entry["name"]: _value(entry, objects) for entry in container["env"]}


def _value(entry: Object, objects: list[Object]) -> str:
    if "value" in entry:
        assert isinstance(entry["value"], str)
        return entry["value"]
    reference = entry["valueFrom"]["secretKeyRef"]
    secret = of_kind(objects, "Secret")
    assert secret["metadata"]["name"] == reference["name"]
    return base64.b64decode(secret["data"][reference["key"]]).decode()
