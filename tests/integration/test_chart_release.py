"""Releases of the chart over time: what an upgrade, a rotation and a removal do to the token.

With Helm as a library, and also with the ``helm`` that is on PATH, if there is one; both over HTTPS
against the stand-in for an API server.
"""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import helm_python
import pytest

from tests.chart.chart_values import CHART
from tests.chart.rendering import MINIMAL, NAMESPACE, Object
from tests.integration.kubernetes_server import KubernetesServer, kubernetes_server
from tests.integration.kubernetes_store import (
    SCALED_OBJECT,
    SERVICE_MONITOR,
    TRIGGER_AUTHENTICATION,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

NAME = "agent-tendril"
#: Without the secrets: what people give to each upgrade.
PLAIN: Object = {
    "cluster": MINIMAL["cluster"],
    "controlPlane": {"url": MINIMAL["controlPlane"]["url"]},
}


class HelmFailed(Exception):
    """It refused; its words are the message."""


class Helm(Protocol):
    """One release, ``agent``."""

    def install(self, values: Object) -> None: ...

    def upgrade(self, values: Object) -> None: ...

    def roll_back(self) -> None: ...

    def uninstall(self) -> None: ...


@dataclass
class Library:
    """Helm as a library."""

    config: helm_python.Config

    def install(self, values: Object) -> None:
        self._run(self.config.install, values, create_namespace=True)

    def upgrade(self, values: Object) -> None:
        self._run(self.config.upgrade, values)

    def roll_back(self) -> None:
        self.config.rollback("agent")

    def uninstall(self) -> None:
        self.config.uninstall("agent")

    def _run(self, action: object, values: Object, **more: bool) -> None:
        assert callable(action)
        try:
            action(CHART, "agent", values, namespace=NAMESPACE, **more)
        except helm_python.HelmError as exc:
            raise HelmFailed(str(exc)) from exc


@dataclass
class Program:
    """Helm as a program."""

    path: str
    kubeconfig: Path

    def install(self, values: Object) -> None:
        self._run("install", "agent", str(CHART), "--create-namespace", values=values)

    def upgrade(self, values: Object) -> None:
        self._run("upgrade", "agent", str(CHART), values=values)

    def roll_back(self) -> None:
        self._run("rollback", "agent")

    def uninstall(self) -> None:
        self._run("uninstall", "agent")

    def _run(self, *arguments: str, values: Object | None = None) -> None:
        place = ("--kubeconfig", str(self.kubeconfig), "--namespace", NAMESPACE)
        given = ("--values", "-") if values is not None else ()
        done = subprocess.run(
            [self.path, *arguments, *place, *given],
            input=json.dumps(values) if values is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HelmFailed(done.stderr)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with kubernetes_server(tmp_path) as running:
        yield running


@pytest.fixture(params=["library", *(["program"] if shutil.which("helm") else [])])
def helm(
    request: pytest.FixtureRequest, server: KubernetesServer, tmp_path: Path
) -> Iterator[Helm]:
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
    if request.param == "program":
        yield Program(str(shutil.which("helm")), kubeconfig)
        return
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=NAMESPACE) as config:
        yield Library(config)


def secret(server: KubernetesServer) -> dict[str, str]:
    data = server.object("Secret", NAMESPACE, NAME)["data"]
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def restart_marks(server: KubernetesServer) -> Object:
    """Return what makes Kubernetes replace the pods when it changes."""
    deployment = server.object("Deployment", NAMESPACE, NAME)
    marks: Object = deployment["spec"]["template"]["metadata"]["annotations"]
    return marks


def test_an_upgrade_without_a_token_keeps_it_and_replaces_no_pod(
    server: KubernetesServer, helm: Helm
) -> None:
    helm.install(MINIMAL)
    before = restart_marks(server)
    assert secret(server) == {"token": "tdr_token", "api-key": "anon.key"}
    helm.upgrade({**PLAIN, "replicas": 2})
    assert secret(server) == {"token": "tdr_token", "api-key": "anon.key"}
    assert server.object("Deployment", NAMESPACE, NAME)["spec"]["replicas"] == 2
    assert restart_marks(server) == before


def test_a_new_token_alone_is_taken_and_the_pods_are_replaced(
    server: KubernetesServer, helm: Helm
) -> None:
    helm.install(MINIMAL)
    before = restart_marks(server)
    helm.upgrade({**PLAIN, "token": "tdr_second"})
    assert secret(server) == {"token": "tdr_second", "api-key": "anon.key"}
    assert restart_marks(server) != before


@pytest.mark.long
def test_rolling_back_brings_an_old_token_back_as_the_page_warns(
    server: KubernetesServer, helm: Helm
) -> None:
    helm.install(MINIMAL)
    helm.upgrade({**PLAIN, "token": "tdr_second"})
    helm.roll_back()
    assert secret(server)["token"] == "tdr_token"
    helm.upgrade({**PLAIN, "token": "tdr_second"})
    assert secret(server)["token"] == "tdr_second"


@pytest.mark.long
def test_the_token_stays_when_the_release_goes_and_a_new_one_takes_it_up(
    server: KubernetesServer, helm: Helm
) -> None:
    helm.install(MINIMAL)
    helm.uninstall()
    assert server.objects("Deployment", NAMESPACE) == []
    assert secret(server)["token"] == "tdr_token"
    helm.install(PLAIN)
    assert secret(server) == {"token": "tdr_token", "api-key": "anon.key"}


def test_a_first_installation_without_a_token_is_refused(
    server: KubernetesServer, helm: Helm
) -> None:
    with pytest.raises(HelmFailed, match="token is not set and no earlier one is kept"):
        helm.install(PLAIN)
    assert server.objects("Deployment", NAMESPACE) == []


@pytest.mark.long
def test_the_secret_stays_too_when_a_release_turns_to_another(
    server: KubernetesServer, helm: Helm
) -> None:
    helm.install(MINIMAL)
    helm.upgrade({**PLAIN, "existingSecret": "vault"})
    assert secret(server)["token"] == "tdr_token"
    [container] = server.object("Deployment", NAMESPACE, NAME)["spec"]["template"]["spec"][
        "containers"
    ]
    named = {entry["valueFrom"]["secretKeyRef"]["name"] for entry in container["env"][2:4]}
    assert named == {"vault"}


def test_a_secret_that_somebody_else_made_is_not_touched(
    server: KubernetesServer, helm: Helm
) -> None:
    server.put({"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    metadata = {"name": NAME, "namespace": NAMESPACE}
    server.put({"kind": "Secret", "metadata": metadata, "stringData": {"token": "theirs"}})
    with pytest.raises(HelmFailed, match="invalid ownership metadata"):
        helm.install(MINIMAL)
    assert secret(server) == {"token": "theirs"}


@pytest.mark.long
def test_a_release_turns_to_claims_and_back(server: KubernetesServer, helm: Helm) -> None:
    helm.install(MINIMAL)
    helm.upgrade({**PLAIN, "state": {"persistence": {"enabled": True}}})
    assert server.objects("Deployment", NAMESPACE) == []
    assert server.object("StatefulSet", NAMESPACE, NAME)["spec"]["replicas"] == 1
    assert server.object("Service", NAMESPACE, NAME)
    helm.upgrade(PLAIN)
    assert server.objects("StatefulSet", NAMESPACE) == []
    assert server.object("Deployment", NAMESPACE, NAME)


@pytest.mark.long
def test_an_upgrade_leaves_the_replicas_to_the_autoscaler(
    server: KubernetesServer, helm: Helm
) -> None:
    server.resources += [SERVICE_MONITOR, SCALED_OBJECT, TRIGGER_AUTHENTICATION]
    scaled = {**PLAIN, "keda": {"enabled": True, "tokenSecret": "scaler"}}
    helm.install({**scaled, **MINIMAL})
    deployment = server.object("Deployment", NAMESPACE, NAME)
    deployment["spec"]["replicas"] = 3
    server.put(deployment)
    helm.upgrade({**scaled, "podAnnotations": {"changed": "yes"}})
    assert server.object("Deployment", NAMESPACE, NAME)["spec"]["replicas"] == 3
    assert restart_marks(server)["changed"] == "yes"
