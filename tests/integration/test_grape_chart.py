"""The release that a bootstrap keeps: by Helm as a library, and by ``helm`` if it is there."""

import base64
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from tendril_rt.bootstrap import chart
from tendril_rt.bootstrap.plan import Request
from tendril_rt.bootstrap.registration import Credentials
from tendril_rt.errors import KubernetesError
from tendril_rt.model import ClusterId
from tests.integration.kubernetes_server import KubernetesServer, kubernetes_server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CREDENTIALS = Credentials(ClusterId("1b4e28ba-2fa1-4d52-883f-0016d3cca427"), "one", is_new=True)
ROLE = "arn:aws:iam::123456789012:role/acme-dev-agent"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with kubernetes_server(tmp_path) as running:
        running.put({"kind": "Namespace", "metadata": {"name": "tendril"}})
        yield running


@pytest.fixture(params=["library", *(["program"] if shutil.which("helm") else [])])
def request_with_helm(request: pytest.FixtureRequest, tmp_path: Path) -> Request:
    path = os.environ["PATH"] if request.param == "program" else "/usr/bin:/bin"
    return Request(
        project="acme",
        environment="dev",
        region="eu-north-1",
        url="https://acme.supabase.co",
        api_key="anon.key",
        folder=tmp_path,
        environ={"PATH": path, "HOME": str(tmp_path)},
        token_command=["false"],
        chart_values={"replicas": 2, "settings": {"TENDRIL_CAPACITY": 8}},
    )


@pytest.fixture
def helm(request_with_helm: Request, server: KubernetesServer, tmp_path: Path) -> chart.Helm:
    return chart.find(request_with_helm, server.write_kubeconfig(tmp_path / "kubeconfig"))


def ensure(helm: chart.Helm, values: chart.Values) -> bool:
    return anyio.run(chart.ensure, helm, values)


def environment(server: KubernetesServer) -> dict[str, str]:
    deployment = server.object("Deployment", "tendril", "tendril")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def leave_unfinished(server: KubernetesServer, status: str) -> None:
    """Make the newest revision what a Helm leaves behind that is killed in the middle."""
    revisions = [
        s for s in server.objects("Secret", "tendril") if "sh.helm" in s["metadata"]["name"]
    ]
    newest = max(revisions, key=lambda s: int(s["metadata"]["labels"]["version"]))
    packed = base64.b64decode(base64.b64decode(newest["data"]["release"]))
    release = json.loads(gzip.decompress(packed))
    release["info"]["status"] = status
    repacked = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    newest["data"]["release"] = base64.b64encode(repacked).decode()
    newest["metadata"]["labels"]["status"] = status
    server.put(newest)


def test_it_is_installed_once_and_changed_only_by_other_values(
    helm: chart.Helm, request_with_helm: Request, server: KubernetesServer
) -> None:
    values = chart.values_of(request_with_helm, CREDENTIALS, ROLE)
    assert ensure(helm, values)
    env = environment(server)
    assert env["TENDRIL_INSTALL_ID"] == "one"
    assert env["TENDRIL_CAPACITY"] == "8"
    account = server.object("ServiceAccount", "tendril", "tendril")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == ROLE
    writes = len([call for call in server.calls if call.method != "GET"])
    assert not ensure(helm, values)
    assert len([call for call in server.calls if call.method != "GET"]) == writes
    second = Credentials(CREDENTIALS.cluster_id, "two", is_new=True)
    assert ensure(helm, chart.values_of(request_with_helm, second, ROLE))
    assert environment(server)["TENDRIL_INSTALL_ID"] == "two"


@pytest.mark.long
def test_an_installation_that_was_killed_is_begun_anew(
    helm: chart.Helm, request_with_helm: Request, server: KubernetesServer
) -> None:
    values = chart.values_of(request_with_helm, CREDENTIALS, ROLE)
    assert ensure(helm, values)
    leave_unfinished(server, "pending-install")
    assert ensure(helm, values)
    assert not ensure(helm, values)


@pytest.mark.long
def test_an_upgrade_that_was_killed_is_undone_and_made_again(
    helm: chart.Helm, request_with_helm: Request, server: KubernetesServer
) -> None:
    assert ensure(helm, chart.values_of(request_with_helm, CREDENTIALS, None))
    values = chart.values_of(request_with_helm, CREDENTIALS, ROLE)
    assert ensure(helm, values)
    leave_unfinished(server, "pending-upgrade")
    assert ensure(helm, values)
    assert not ensure(helm, values)
    account = server.object("ServiceAccount", "tendril", "tendril")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == ROLE


def test_a_refusal_is_told_in_helms_words_and_the_next_try_completes(
    helm: chart.Helm, request_with_helm: Request, server: KubernetesServer
) -> None:
    values = chart.values_of(request_with_helm, CREDENTIALS, ROLE)
    refusals = [  # Helm 4 applies on the server's side, which is a PATCH
        server.refuse(method, r"/deployments", 403, "Forbidden", "exceeded quota: pods")
        for method in ("POST", "PATCH")
    ]
    with pytest.raises(KubernetesError, match="exceeded quota: pods"):
        ensure(helm, values)
    for refusal in refusals:
        server.allow(refusal)
    assert ensure(helm, values)
    assert environment(server)["TENDRIL_INSTALL_ID"] == "one"


@pytest.mark.long
def test_removed_it_is_gone_and_removing_again_is_fine(
    helm: chart.Helm, request_with_helm: Request, server: KubernetesServer
) -> None:
    assert ensure(helm, chart.values_of(request_with_helm, CREDENTIALS, ROLE))
    anyio.run(helm.remove)
    assert server.objects("Deployment", "tendril") == []
    anyio.run(helm.remove)
