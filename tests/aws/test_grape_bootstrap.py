"""From no cloud to a managed cluster: real Terraform and provider, a real agent, real sockets."""

import base64
import json
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningPlane
from tests.integration.kubernetes_server import KubernetesServer, kubernetes_server

from .bootstrapping import REGION, Bootstrap
from .cloud import Cloud
from .kubelet import Kubelet, kubelet

pytestmark = [
    pytest.mark.aws,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("aws_provider"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubernetesServer]:
    with kubernetes_server(tmp_path) as running:
        yield running


@pytest.fixture
def node(server: KubernetesServer, tmp_path: Path) -> Iterator[Kubelet]:
    with kubelet(server, tmp_path / "node") as running:
        yield running


@pytest.fixture
def bootstrap(
    plane: RunningPlane, cloud: Cloud, server: KubernetesServer, tmp_path: Path
) -> Bootstrap:
    return Bootstrap(plane, cloud, server, tmp_path, f"g{uuid.uuid4().hex[:8]}")


def token_of(server: KubernetesServer) -> str:
    data = server.object("Secret", "tendril", "tendril-credentials")["data"]
    return base64.b64decode(data["token"]).decode()


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_from_nothing_to_online_and_again_and_back(
    bootstrap: Bootstrap, node: Kubelet, server: KubernetesServer, cloud: Cloud
) -> None:
    first = bootstrap("--json")
    assert first.code == 0, first.err
    made = json.loads(first.out)
    assert made["status"] == "ONLINE"
    resources = sorted(cloud.left_of(bootstrap.project, REGION))
    assert bootstrap.name in cloud.client("eks", REGION).list_clusters()["clusters"]
    token = token_of(server)
    role = server.object("ServiceAccount", "tendril", "tendril")["metadata"]["annotations"]
    assert f":role/{bootstrap.name}-agent-" in role["eks.amazonaws.com/role-arn"]

    # What is secret is nowhere but in the Secret.
    assert not [argv for argv in bootstrap.argvs if token.encode() in argv]
    for path in files_below(bootstrap.data):
        assert token.encode() not in path.read_bytes(), path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 or "tfstate" in str(path), path
    assert token not in first.out + first.err

    # Again: nothing changes.
    calls = len(server.calls)
    again = bootstrap("--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == made
    assert "nothing to change" in again.err
    assert sorted(cloud.left_of(bootstrap.project, REGION)) == resources
    assert token_of(server) == token
    assert node.started == 1
    writes = [call for call in server.calls[calls:] if call.method != "GET"]
    assert writes == []

    # And back.
    gone = bootstrap("--destroy")
    assert gone.code == 0, gone.err
    assert cloud.left_of(bootstrap.project, REGION) == []
    assert bootstrap.name not in cloud.client("eks", REGION).list_clusters()["clusters"]
    assert server.objects("Deployment") == []
