"""The stand-in for a Kubernetes API server, as Helm's own SDK sees it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest

from tests.integration.kubernetes_server import KubernetesServer, kubernetes_server
from tests.integration.kubernetes_store import RESOURCES, SERVICE_MONITOR, Refused, merged

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: '{{ .Release.Name }}-words', labels: {app: words}}
data:
  {{- toYaml .Values.data | nindent 2 }}
"""
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: '{{ .Release.Name }}'}
spec:
  replicas: 1
  selector: {matchLabels: {app: words}}
  template:
    metadata: {labels: {app: words}}
    spec: {containers: [{name: words, image: words}]}
"""
READY = {
    "observedGeneration": 1,
    **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 1),
    "conditions": [
        {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"},
        {"type": "Available", "status": "True"},
    ],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with kubernetes_server(tmp_path) as running:
        yield running


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """Return a chart of one ConfigMap and one Deployment."""
    folder = tmp_path / "words"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: words, version: 1.0.0}")
    (folder / "values.yaml").write_text("data: {}")
    (folder / "templates" / "words.yaml").write_text(CONFIG_MAP)
    (folder / "templates" / "agent.yaml").write_text(DEPLOYMENT)
    return folder


def config(server: KubernetesServer, folder: Path, token: str | None = None) -> helm_python.Config:
    kubeconfig = server.write_kubeconfig(folder / "kubeconfig", token=token)
    return helm_python.Config(kubeconfig_path=kubeconfig, namespace="garden")


def test_a_release_is_installed_changed_and_removed(
    server: KubernetesServer, chart: Path, tmp_path: Path
) -> None:
    with config(server, tmp_path) as helm:
        values = {"data": {"kept": "1", "dropped": "2"}}
        first = helm.install(chart, "a", values, namespace="garden", create_namespace=True)
        assert (first["status"], first["revision"]) == ("deployed", 1)
        stored = server.object("ConfigMap", "garden", "a-words")
        assert stored["data"] == {"kept": "1", "dropped": "2"}
        helm.upgrade(chart, "a", {"data": {"kept": "3"}}, namespace="garden")
        assert server.object("ConfigMap", "garden", "a-words")["data"] == {"kept": "3"}
        assert [entry["revision"] for entry in helm.list()] == [2]
        helm.uninstall("a")
        assert server.objects("ConfigMap", "garden") == []
        assert server.objects("Secret", "garden", "owner=helm") == []


def test_waiting_ends_when_a_status_says_so(
    server: KubernetesServer, chart: Path, tmp_path: Path
) -> None:
    def make_ready() -> None:
        server.wait_for("Deployment", "garden", "a", timeout_s=30)
        server.set_status("Deployment", "garden", "a", READY)

    controller = threading.Thread(target=make_ready)
    controller.start()
    with config(server, tmp_path) as helm:
        release = helm.install(
            chart, "a", namespace="garden", create_namespace=True, wait="watcher", timeout=30
        )
    controller.join()
    assert release["status"] == "deployed"


def test_what_a_test_refuses_is_refused_as_often_as_it_says(
    server: KubernetesServer, chart: Path, tmp_path: Path
) -> None:
    server.refuse("PATCH", "/deployments/", 403, "Forbidden", "exceeded quota: agents", times=1)
    with config(server, tmp_path) as helm:
        with pytest.raises(helm_python.HelmError, match="exceeded quota: agents"):
            helm.install(chart, "a", namespace="garden", create_namespace=True)
        helm.upgrade(chart, "a", namespace="garden")
    assert server.object("Deployment", "garden", "a")


def test_another_token_is_nobody(server: KubernetesServer, chart: Path, tmp_path: Path) -> None:
    with (
        config(server, tmp_path, token="another") as helm,
        pytest.raises(helm_python.HelmError, match="provide credentials"),
    ):
        helm.install(chart, "a", namespace="garden")
    assert server.calls == []


def test_a_namespace_has_to_be_there(server: KubernetesServer, chart: Path, tmp_path: Path) -> None:
    with (
        config(server, tmp_path) as helm,
        pytest.raises(helm_python.HelmError, match='namespaces "garden" not found'),
    ):
        helm.install(chart, "a", namespace="garden")


def test_a_kind_is_known_only_where_its_operator_seems_installed(server: KubernetesServer) -> None:
    assert SERVICE_MONITOR not in RESOURCES
    assert server.discovery("/apis/monitoring.coreos.com/v1") is None
    server.resources.append(SERVICE_MONITOR)
    assert server.discovery("/apis/monitoring.coreos.com/v1") is not None


def test_what_a_controller_makes_is_found_by_its_labels(server: KubernetesServer) -> None:
    for name, app in (("a", "x"), ("b", "y")):
        metadata = {"name": name, "namespace": "default", "labels": {"app": app}}
        server.put({"kind": "Pod", "metadata": metadata})
    for selector in ("app=y", "app!=x", "app in (y, z)", "app notin (x),app"):
        [pod] = server.objects("Pod", "default", selector)
        assert pod["metadata"]["name"] == "b"
    assert len(server.objects("Pod", labels="app")) == 2


def test_an_object_that_changed_meanwhile_is_not_replaced(server: KubernetesServer) -> None:
    read = server.put({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": "1"}})
    server.put({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"n": "2"}})
    with pytest.raises(Refused, match="modified"):
        server.put(read)


def test_a_strategic_patch_finds_items_of_lists_by_their_key() -> None:
    old = {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "args": [1, 2]}
    keys = {"containers": "name"}
    patch = {"containers": [{"name": "a", "image": "2"}, {"name": "c"}], "args": [3]}
    assert merged(old, patch, keys) == {
        "containers": [{"name": "a", "image": "2"}, {"name": "b"}, {"name": "c"}],
        "args": [3],
    }
    gone = {"containers": [{"name": "b", "$patch": "delete"}]}
    assert merged(old, gone, keys)["containers"] == [{"name": "a", "image": "1"}]
