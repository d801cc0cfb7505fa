"""Settings, variables, values and pages belong together, and a wrong value is refused by name."""

import dataclasses

import helm_python
import pytest

from tendril_rt.model import ENDING
from tendril_rt.settings import Settings, from_env, variable_of
from tests.chart.chart_values import (
    COMMAND,
    MARGIN_S,
    MIN_GRACE_S,
    NAMED,
    PAGE,
    SCHEMA,
    default_at,
    fields,
    leaves,
    page,
    schema,
    schema_text,
    values,
)
from tests.chart.rendering import MINIMAL, Object, at, environment, render, workload
from tests.chart.test_rendering import MATRIX
from tests.unit.render_settings import default_text

FIELDS = list(fields())
_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#: What to set a value to, and what the agent's variable is then; of all others the default.
SAMPLES: dict[str, tuple[object, str]] = {
    "TENDRIL_CLUSTER_ID": (MINIMAL["cluster"]["id"], MINIMAL["cluster"]["id"]),
    "TENDRIL_API_TOKEN": ("tdr_other", "tdr_other"),
    "SUPABASE_URL": ("https://b.example", "https://b.example"),
    "SUPABASE_KEY": ("b.key", "b.key"),
    "TENDRIL_STATE_DIR": ("/data", "/data/agent"),
    "TENDRIL_GRACE_S": (600, "590"),
    "TENDRIL_HEALTH_PORT": (9000, "9000"),
    "TENDRIL_HEALTH_HOST": ("::", "::"),
    "TENDRIL_GIT_CREDENTIALS_FILE": ("git", "/etc/tendril/git/credentials"),
    "TENDRIL_GIT_SSH_KEY_FILE": ("ssh", "/etc/tendril/ssh/ssh-privatekey"),
    "TENDRIL_GIT_KNOWN_HOSTS_FILE": ("ssh", "/etc/tendril/ssh/known_hosts"),
    "TENDRIL_PLUGIN_CACHE_DIR": (True, "/var/lib/tendril/plugins"),
    "TENDRIL_DEFAULT_BACKEND_FILE": ("terraform {}", "/etc/tendril/files/backend.tf"),
    "TENDRIL_PLUGIN_MIRROR_DIR": ("/mirror", "/mirror"),
    "TENDRIL_TRUSTED_KEYS": (_KEY, _KEY),
    "TENDRIL_PASS_ENV": ("A_*,B", "A_*,B"),
}


def agent_settings(*overrides: Object) -> Settings:
    """Return what the agent makes of the variables that it is given."""
    return from_env(environment(render(*overrides)))


# --- one table ------------------------------------------------------------------------------------


def test_schema_and_page_are_those_of_the_code() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), f"run: {COMMAND}"
    assert PAGE.read_text(encoding="utf-8") == page(), f"run: {COMMAND}"


def test_every_value_has_a_default_and_every_default_is_known() -> None:
    for path, item in leaves(schema()):
        default_at(path)
        assert item["description"], path
    assert not _unknown(values(), schema())


def _unknown(defaults: Object, part: Object) -> list[str]:
    found = [name for name in defaults if name not in part["properties"]]
    for name, value in defaults.items():
        if isinstance(value, dict) and "properties" in part["properties"].get(name, {}):
            found += _unknown(value, part["properties"][name])
    return found


def test_every_object_of_values_is_closed_unless_its_keys_are_the_users() -> None:
    def check(part: Object, path: str) -> None:
        if "properties" in part:
            assert part["additionalProperties"] is False or path.startswith("extraEnv"), path
            for name, item in part["properties"].items():
                check(item, f"{path}.{name}".lstrip("."))

    check(schema(), "")


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: variable_of(item).name)
def test_each_setting_is_reached_by_its_value_and_stands_on_the_page(
    item: dataclasses.Field[object],
) -> None:
    name = variable_of(item).name
    path = NAMED.get(name, f"settings.{name}")
    value, wanted = SAMPLES.get(name) or (item.default, default_text(item) or "")
    if name not in SAMPLES and not isinstance(value, bool | int | float):
        value = str(value)
    found = environment(render(at(path, value)))
    assert found[name] == wanted
    assert f"| `{name}` | `{path}` |" in PAGE.read_text(encoding="utf-8")
    assert variable_of(item).parse(found[name]) == variable_of(item).parse(wanted)


def test_a_setting_is_either_the_charts_or_in_the_map() -> None:
    names = {variable_of(item).name for item in FIELDS}
    assert set(NAMED) <= names
    assert set(schema()["properties"]["settings"]["properties"]) == names - set(NAMED)


@pytest.mark.parametrize("case", [case for case in MATRIX if case != "an existing secret"])
def test_the_agent_takes_what_it_is_given_and_knows_every_variable(case: str) -> None:
    found = environment(render(MATRIX[case]))
    from_env(found)
    ours = {name for name in found if name.startswith(("TENDRIL_", "SUPABASE_"))}
    assert ours <= {variable_of(item).name for item in FIELDS}


def test_numbers_arrive_as_they_were_written() -> None:
    found = environment(
        render(
            {
                "settings": {
                    "TENDRIL_GIT_MAX_BYTES": 10737418240,
                    "TENDRIL_POLL_INTERVAL_S": 2.5,
                    "TENDRIL_REALTIME": False,
                    "TENDRIL_LOG_FORMAT": None,
                }
            }
        )
    )
    assert found["TENDRIL_GIT_MAX_BYTES"] == "10737418240"
    assert found["TENDRIL_POLL_INTERVAL_S"] == "2.5"
    assert found["TENDRIL_REALTIME"] == "false"
    assert "TENDRIL_LOG_FORMAT" not in found


# --- the end of a pod -----------------------------------------------------------------------------


@pytest.mark.parametrize("grace_s", [MIN_GRACE_S, 1800, 86400])
def test_the_agent_has_ended_before_its_pod_is_killed(grace_s: int) -> None:
    given = at("terminationGracePeriodSeconds", grace_s)
    pod = workload(render(given))["spec"]["template"]["spec"]
    agent = agent_settings(given).agent
    assert pod["terminationGracePeriodSeconds"] == grace_s
    ending_s = agent.drain_s + ENDING.stop_s + ENDING.deliver_s + ENDING.exit_s
    assert ending_s == agent.grace_s == grace_s - MARGIN_S < grace_s


def test_the_probes_ask_the_port_that_the_agent_opens() -> None:
    given = at("health.port", 9000)
    [container] = workload(render(given))["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "health", "containerPort": 9000}]
    assert agent_settings(given).agent.health_port == 9000
    assert {
        name: container[name]["httpGet"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    } == {
        "startupProbe": {"path": "/livez", "port": "health"},
        "livenessProbe": {"path": "/livez", "port": "health"},
        "readinessProbe": {"path": "/readyz", "port": "health"},
    }


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicas", -1, "replicas"),
        ("replicsa", 1, "replicsa"),
        ("settings.TENDRIL_CAPACTIY", 3, "TENDRIL_CAPACTIY"),
        ("settings.TENDRIL_GRACE_S", 300, "TENDRIL_GRACE_S"),
        ("settings.TENDRIL_API_TOKEN", "tdr", "TENDRIL_API_TOKEN"),
        ("settings.TENDRIL_CAPACITY", "four", "TENDRIL_CAPACITY"),
        ("settings.TENDRIL_LOG_LEVEL", "loud", "TENDRIL_LOG_LEVEL"),
        ("terminationGracePeriodSeconds", MIN_GRACE_S - 1, "terminationGracePeriodSeconds"),
        ("cluster.id", "prod", "cluster/id"),
        ("controlPlane.url", "https://acme.supabase.co/rest/v1", "controlPlane/url"),
        ("token", "tdr token", "token"),
        ("existingSecret", "My Secret", "existingSecret"),
        ("runAsUser", 0, "runAsUser"),
        ("health.port", 80, "health/port"),
        ("image.digest", "latest", "image/digest"),
        ("serviceAccount.roleArn", "tendril", "serviceAccount/roleArn"),
        ("podDisruptionBudget.maxUnavailable", 0, "maxUnavailable"),
        ("tmp.sizeLimit", "ten", "tmp/sizeLimit"),
        ("networkPolicy.egressPorts", ["https"], "egressPorts/0"),
        ("proxy.https", "http://user:word@proxy:3128", "proxy/https"),
        ("extraEnv", [{"name": "TENDRIL_CAPACITY", "value": "1"}], "extraEnv/0/name"),
        ("state.persistence.whenDeleted", "Keep", "whenDeleted"),
        ("fullnameOverride", "a" * 53, "fullnameOverride"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(path: str, value: object, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=said):
        render(at(path, value))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"token": ""}, "token is not set and no earlier one is kept"),
        (at("controlPlane.apiKey", ""), "controlPlane.apiKey is not set"),
        (at("controlPlane.url", ""), "controlPlane.url is not set"),
        (at("cluster.id", ""), "cluster.id is not set"),
        (at("keda.enabled", True), "keda.tokenSecret is not set"),
    ],
)
def test_a_missing_value_is_asked_for(given: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=said):
        render(given)


def test_a_refusal_holds_no_secret() -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        render({"token": "tdr_token"}, at("cluster.id", ""))
    assert "tdr_token" not in str(refused.value)
