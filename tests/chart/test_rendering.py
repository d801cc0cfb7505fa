"""What the chart renders is what Kubernetes takes, for values that people give."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import helm_python
import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tendril_rt import __version__
from tests.chart import pod_security
from tests.chart.chart_values import CHART
from tests.chart.rendering import (
    Object,
    at,
    chart,
    notes,
    of_kind,
    pod_specs,
    render,
    values,
    workload,
)

pytestmark = pytest.mark.timeout(120)

_INFO = 1  # of Helm's severities; above are warnings and errors
RELEASES = ("1.31.0", "1.34.0", "1.37.0")
CUSTOM = json.loads((Path(__file__).parent / "custom_resources.json").read_text(encoding="utf-8"))

EVERYTHING: Object = {
    "replicas": 3,
    "settings": {"TENDRIL_CAPACITY": 2, "TENDRIL_GIT_MAX_BYTES": 1073741824},
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": [{"name": "registry"}]},
    "git": {"credentialsSecret": "git", "sshSecret": "ssh"},
    "terraform": {"cliConfig": 'credentials "a" {}', "pluginCache": True, "defaultBackend": "x"},
    "caBundle": {"configMap": "ca"},
    "proxy": {"https": "http://proxy.example:3128"},
    "serviceAccount": {"roleArn": "arn:aws:iam::123456789012:role/x", "annotations": {"a": "b"}},
    "networkPolicy": {
        "ingressFrom": [{"namespaceSelector": {}}],
        "dnsTo": [{"namespaceSelector": {}}],
        "extraEgress": [{"ports": [{"port": 5432, "protocol": "TCP"}]}],
    },
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "keda": {"enabled": True, "tokenSecret": "scaler"},
    "commonLabels": {"team": "platform"},
    "podLabels": {"zone": "a"},
    "podAnnotations": {"x": "y"},
    "priorityClassName": "high",
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "extraEnv": [{"name": "INFRACOST_API_KEY", "value": "x"}],
    "extraEnvFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "mirror", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "mirror", "mountPath": "/mirror"}],
}
CLAIM = {"storageClassName": "gp3", "annotations": {"a": "b"}}
MATRIX: dict[str, Object] = {
    "the least": {},
    "everything": EVERYTHING,
    "claims": at("state.persistence", {"enabled": True}),
    "everything with claims": {
        **EVERYTHING,
        "state": {"persistence": {"enabled": True, **CLAIM}},
        "strategy": {"type": "OnDelete"},
    },
    "an existing secret": {"existingSecret": "vault", "token": "", "controlPlane": {"apiKey": ""}},
    "limits": {"state": {"sizeLimit": "5Gi"}, "tmp": {"sizeLimit": "20Gi", "medium": "Memory"}},
    "a volume for tmp": at(
        "tmp.volume",
        {
            "ephemeral": {
                "volumeClaimTemplate": {
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "50Gi"}},
                    }
                }
            }
        },
    ),
    "a configuration in a secret": {
        "terraform": {"cliConfigSecret": "tf"},
        "caBundle": {"secret": "ca"},
    },
    "no user": {"runAsUser": None},
    "nothing that may be left out": {
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "doctor": {"enabled": False},
        "resources": {},
    },
    "a share of the agents": at("podDisruptionBudget.maxUnavailable", "50%"),
    "another strategy": at("strategy", {"type": "Recreate"}),
    "a plane of one's own": {
        "controlPlane": {"url": "http://plane.example:8000"},
        "metrics": {"service": True},
        "health": {"host": "::", "port": 9000},
    },
    "long names": {"fullnameOverride": "a" * 52},
}


@pytest.fixture(autouse=True, scope="module")
def _schemas_are_read_once() -> Iterator[None]:
    """Keep the 10 MB that kubernetes-validate would read anew for every object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("case", MATRIX)
def test_every_object_is_one_that_three_releases_of_kubernetes_take(case: str) -> None:
    objects = render(MATRIX[case])
    for obj in objects:
        if obj["kind"] in CUSTOM:
            jsonschema.validate(obj, CUSTOM[obj["kind"]])
            continue
        for release in RELEASES:
            kubernetes_validate.validate(obj, release, strict=True)
    assert {"ScaledObject", "ServiceMonitor"} <= {o["kind"] for o in objects} or (
        "everything" not in case
    )


@pytest.mark.parametrize("case", MATRIX)
def test_every_pod_keeps_the_restricted_standard(case: str) -> None:
    specs = list(pod_specs(render(MATRIX[case])))
    assert [fault for spec in specs for fault in pod_security.faults(spec)] == []
    assert len(specs) == (1 if case == "nothing that may be left out" else 2)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (("securityContext", "runAsNonRoot"), False, "may run as root"),
        (("securityContext", "runAsUser"), 0, "may run as root"),
        (("securityContext", "seccompProfile"), {}, "no seccomp profile"),
        (("hostNetwork",), True, "hostNetwork"),
        (("volumes",), [{"name": "x", "hostPath": {"path": "/"}}], "volume x"),
    ],
)
def test_a_pod_that_breaks_the_standard_is_seen(
    path: tuple[str, ...], value: object, fault: str
) -> None:
    [spec, *_] = pod_specs(render())
    part = spec
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    assert fault in pod_security.faults(spec)


@pytest.mark.parametrize("case", MATRIX)
def test_no_pod_mounts_a_token_of_the_cluster_and_each_mount_has_its_volume(case: str) -> None:
    objects = render(MATRIX[case])
    claims = {
        claim["metadata"]["name"]
        for claim in workload(objects)["spec"].get("volumeClaimTemplates", [])
    }
    for spec in pod_specs(objects):
        assert spec["automountServiceAccountToken"] is False
        [container] = spec["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in spec["volumes"]} | claims
        assert {volume["name"] for volume in spec["volumes"]} <= mounted


@pytest.mark.parametrize("case", MATRIX)
def test_what_selects_agents_finds_them_and_no_other_pod(case: str) -> None:
    objects = render(MATRIX[case])
    labels = workload(objects)["spec"]["template"]["metadata"]["labels"]
    wanted = workload(objects)["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= labels.items()
    for obj in objects:
        if obj["kind"] == "Pod":
            assert not wanted.items() <= obj["metadata"]["labels"].items()
            policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
            for policy in policies:
                chosen = policy["spec"]["podSelector"]["matchLabels"]
                assert chosen.items() <= obj["metadata"]["labels"].items()
                assert chosen.items() <= labels.items()
        if obj["kind"] == "PodDisruptionBudget":
            assert obj["spec"]["selector"]["matchLabels"] == wanted
        if obj["kind"] == "Service":
            assert obj["spec"]["selector"] == wanted


# --- single promises ------------------------------------------------------------------------------


def test_a_role_of_iam_is_named_to_the_cluster() -> None:
    role = "arn:aws:iam::123456789012:role/tendril"
    account = of_kind(render(at("serviceAccount.roleArn", role)), "ServiceAccount")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == role
    assert account["automountServiceAccountToken"] is False


def test_without_claims_a_deployment_starts_the_new_before_the_old_drains() -> None:
    spec = of_kind(render(at("replicas", 2)), "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert {"name": "state", "emptyDir": {}} in spec["template"]["spec"]["volumes"]


def test_with_claims_each_replica_of_a_stateful_set_has_its_own() -> None:
    objects = render(at("state.persistence.enabled", True))
    spec = of_kind(objects, "StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert spec["persistentVolumeClaimRetentionPolicy"] == {
        "whenDeleted": "Retain",
        "whenScaled": "Retain",
    }
    assert of_kind(objects, "Service")["metadata"]["name"] == spec["serviceName"]


def test_who_scales_by_the_queue_leaves_the_number_of_replicas_alone() -> None:
    keda = {"keda": {"enabled": True, "tokenSecret": "scaler"}}
    for persistent, kind in ((False, "Deployment"), (True, "StatefulSet")):
        objects = render(keda, at("state.persistence.enabled", persistent))
        assert "replicas" not in of_kind(objects, kind)["spec"]
        scaled = of_kind(objects, "ScaledObject")["spec"]
        assert scaled["scaleTargetRef"]["kind"] == kind
        names = {trigger["name"] for trigger in scaled["triggers"]}
        formula = scaled["advanced"]["scalingModifiers"]["formula"]
        assert set(formula.split(" + ")) == names


def test_only_the_health_port_lets_anybody_in_and_only_known_ports_lead_out() -> None:
    policy = of_kind(render(), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": 8080}]}]
    dns, https = policy["egress"]
    assert [port["port"] for port in dns["ports"]] == [53, 53]
    assert https["ports"] == [{"protocol": "TCP", "port": 443}]
    assert https["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        (at("controlPlane.url", "http://plane.example:8000"), [443, 8000]),
        (at("controlPlane.url", "http://plane.example"), [443, 80]),
        (at("proxy.https", "http://proxy.example:3128"), [443, 3128]),
        (at("git.sshSecret", "ssh"), [443, 22]),
        (at("networkPolicy.egressPorts", [8443]), [8443, 443]),
    ],
)
def test_the_ports_that_the_agent_itself_needs_lead_out(given: Object, ports: list[int]) -> None:
    policy = of_kind(render(given), "NetworkPolicy")["spec"]
    assert [port["port"] for port in policy["egress"][1]["ports"]] == ports


def test_a_blocked_address_stands_in_its_own_family() -> None:
    given = at("networkPolicy.blockedCidrs", ["169.254.169.254/32", "fd00:ec2::254/128"])
    [four, six] = of_kind(render(given), "NetworkPolicy")["spec"]["egress"][1]["to"]
    assert four["ipBlock"]["except"] == ["169.254.169.254/32"]
    assert six["ipBlock"]["except"] == ["fd00:ec2::254/128"]


def test_agents_that_an_outage_makes_unready_are_not_evicted_beyond_the_budget() -> None:
    budget = of_kind(render(), "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"


def test_texts_of_configuration_arrive_as_they_were_written() -> None:
    backend = 'terraform {\n  backend "s3" {\n    key = "__STACK__"\n  }\n}\n'
    objects = render(at("terraform", {"defaultBackend": backend, "cliConfig": "a\n\n  b\n"}))
    assert of_kind(objects, "ConfigMap")["data"] == {
        "backend.tf": backend,
        "terraform.rc": "a\n\n  b\n",
    }


@pytest.mark.parametrize(
    "given",
    [{"token": "another"}, at("controlPlane.apiKey", "b"), at("terraform.defaultBackend", "x")],
)
def test_pods_are_replaced_when_what_they_read_at_their_start_changes(given: Object) -> None:
    def annotations(*overrides: Object) -> Object:
        found: Object = workload(render(*overrides))["spec"]["template"]["metadata"]["annotations"]
        return found

    assert annotations() == annotations()
    assert annotations() != annotations(given)


def test_the_notes_say_what_to_do_next_and_hold_no_secret() -> None:
    said = notes()
    for command in ("kubectl rollout status deployment/agent-tendril -n garden", "helm test agent"):
        assert command in said
    assert "tdr_token" not in said
    assert "anon.key" not in said
    assert "emptyDir" in said
    assert "emptyDir" not in notes(at("state.persistence.enabled", True))
    assert "kubectl rollout restart" in notes({"existingSecret": "vault"})
    assert "remote backend, or set terraform.defaultBackend" in notes({"replicas": 2})
    assert "More than one agent" not in said


@pytest.mark.parametrize("case", MATRIX)
def test_helm_finds_nothing_to_mend(case: str) -> None:
    found = helm_python.lint(CHART, values(MATRIX[case]), strict=True)
    assert [entry for entry in found["messages"] if entry["severity"] > _INFO] == []


def test_chart_package_and_image_are_of_one_version() -> None:
    assert chart().version == __version__
    assert chart().metadata["appVersion"] == __version__
