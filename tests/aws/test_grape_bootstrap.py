"""From no cloud to a managed cluster: real Terraform and provider, a real agent, real sockets."""

import base64
import json
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningPlane
from tests.integration.grape_support import Grape, new_grape
from tests.integration.kubernetes_server import KubernetesServer, kubernetes_server

from .bootstrapping import REGION, Bootstrap, Process
from .cloud import Cloud
from .kubelet import Kubelet, kubelet
from .refusing_cloud import refusing

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
def grape(plane: RunningPlane, tmp_path: Path) -> Grape:
    return new_grape(plane, tmp_path / "home").sign_in()


@pytest.fixture
def bootstrap(grape: Grape, cloud: Cloud, server: KubernetesServer, tmp_path: Path) -> Bootstrap:
    """An environment of which there is nothing yet."""
    return Bootstrap(grape, cloud, server, tmp_path, f"g{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def seeded(
    plane: RunningPlane, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A project whose infrastructure was made, before its cluster's API refused the rest."""
    folder = tmp_path_factory.mktemp("seeded")
    with kubernetes_server(folder) as server:
        server.write_kubeconfig(folder / "kubeconfig", token="of-somebody-else")
        grape = new_grape(plane, folder / "home").sign_in()
        first = Bootstrap(grape, cloud, server, folder, f"g{uuid.uuid4().hex[:8]}")
        ran = first()
    assert ran.code == 1, ran.err
    assert "does not know this identity" in ran.err
    assert grape("clusters", "list", "--json").json == []
    return first.project, first.data


@pytest.fixture
def built(
    seeded: tuple[str, Path],
    grape: Grape,
    cloud: Cloud,
    server: KubernetesServer,
    tmp_path: Path,
) -> Bootstrap:
    """An environment whose infrastructure is there, for a user and a cluster of this test's own."""
    project, data = seeded
    shutil.copytree(data, tmp_path / "data")
    return Bootstrap(grape, cloud, server, tmp_path, project)


def token_of(server: KubernetesServer) -> str:
    data = server.object("Secret", "tendril", "tendril-credentials")["data"]
    return base64.b64decode(data["token"]).decode()


def live_fingerprints(grape: Grape, cluster: str) -> list[str]:
    shown = grape("clusters", "show", cluster, "--json")
    assert shown.code == 0, shown.err
    tokens = json.loads(shown.out)["tokens"]
    return [str(token["fingerprint"]) for token in tokens if token["revoked_at"] is None]


def assert_no_secret_was_left(bootstrap: Bootstrap, secret: str) -> None:
    assert bootstrap.argvs
    assert not [argv for argv in bootstrap.argvs if secret.encode() in argv]
    for path in bootstrap.data.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or "tfstate" in str(path), path


def until_begun(process: Process, bootstrap: Bootstrap, step: str) -> None:
    """Wait until grape has noted that it begins *step* in its present run."""
    journal = bootstrap.data / "journal.jsonl"
    before = len(journal.read_text().splitlines()) if journal.exists() else 0
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        entries = bootstrap.journal()[before:] if journal.exists() else []
        if any(entry.get("step") == step for entry in entries):
            return
        time.sleep(0.02)
    raise AssertionError(f"{step} was never begun")


def until_in(file: Path, text: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if file.exists() and text in file.read_text(errors="replace"):
            return
        time.sleep(0.02)
    raise AssertionError(f"{text!r} is not in {file}")


def test_from_nothing_to_online_and_again_and_back(
    bootstrap: Bootstrap, node: Kubelet, server: KubernetesServer, cloud: Cloud
) -> None:
    first = bootstrap("--json")
    assert first.code == 0, first.err
    made = json.loads(first.out)
    assert made["status"] == "ONLINE"
    eks = cloud.client("eks", REGION)
    resources = sorted(cloud.left_of(bootstrap.project, REGION))
    assert bootstrap.name in eks.list_clusters()["clusters"]
    token = token_of(server)
    account = server.object("ServiceAccount", "tendril", "tendril")
    role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert f":role/{bootstrap.name}-agent-" in role
    assert token not in first.out + first.err
    assert_no_secret_was_left(bootstrap, token)

    calls = len(server.calls)
    again = bootstrap("--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == made
    assert "nothing to change" in again.err
    assert sorted(cloud.left_of(bootstrap.project, REGION)) == resources
    assert token_of(server) == token
    assert node.started == 1
    assert [call for call in server.calls[calls:] if call.method != "GET"] == []

    gone = bootstrap("--destroy")
    assert gone.code == 0, gone.err
    assert cloud.left_of(bootstrap.project, REGION) == []
    assert bootstrap.name not in eks.list_clusters()["clusters"]
    assert server.objects("Deployment") == []
    assert live_fingerprints(bootstrap.grape, bootstrap.name) == []
    assert bootstrap.fact("cluster_id") == made["cluster_id"]  # the next one takes it up


def test_killed_in_every_step_it_goes_on_and_makes_everything_once(
    bootstrap: Bootstrap, node: Kubelet, server: KubernetesServer, cloud: Cloud
) -> None:
    log = bootstrap.data / "terraform.log"
    stuck = server.refuse("POST", r"/secrets", 500, "InternalError", "etcd is away")
    for step in ("identity", "infrastructure", "kubeconfig", "namespace", "cluster", "token"):
        process = bootstrap.start("--yes")
        until_begun(process, bootstrap, step)
        if step == "infrastructure":
            until_in(log, "# terraform apply\n")
            until_in(log, ": Creating...")
        if step == "token":  # one is made, and cannot be stored
            tries = len(server.calls)
            while not [c for c in server.calls[tries:] if c.path.endswith("/secrets")]:
                time.sleep(0.02)
        bootstrap.kill(process)
    server.allow(stuck)
    for step in ("token", "chart", "heartbeat"):
        process = bootstrap.start("--yes")
        until_begun(process, bootstrap, step)
        bootstrap.kill(process)
    assert "(taken up)" in log.read_text()

    last = bootstrap("--json")
    assert last.code == 0, last.err
    made = json.loads(last.out)
    assert "nothing to change" in last.err
    listed = bootstrap.grape("clusters", "list", "--json")
    assert [row["id"] for row in json.loads(listed.out)] == [made["cluster_id"]]
    assert len(live_fingerprints(bootstrap.grape, bootstrap.name)) == 1
    vpcs = cloud.client("ec2", REGION).describe_vpcs(
        Filters=[{"Name": "tag:Project", "Values": [bootstrap.project]}]
    )["Vpcs"]
    assert len(vpcs) == 1
    assert_no_secret_was_left(bootstrap, token_of(server))


def test_an_answer_that_was_lost_registers_no_second_cluster(
    built: Bootstrap, node: Kubelet, server: KubernetesServer
) -> None:
    stuck = server.refuse("POST", r"/secrets", 403, "Forbidden", "not you")
    assert built().code == 1
    journal = built.data / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if '"cluster_id"' not in line]
    journal.write_text("\n".join(lines) + "\n")  # as a crash before that line leaves it
    server.allow(stuck)
    assert built().code == 0
    listed = built.grape("clusters", "list", "--json")
    assert [row["name"] for row in json.loads(listed.out)] == [built.name]
    assert len(live_fingerprints(built.grape, built.name)) == 1


def test_a_cluster_of_that_name_that_is_not_ours_is_left_alone(
    built: Bootstrap, server: KubernetesServer
) -> None:
    theirs = built.grape.add_cluster(built.name)
    ran = built()
    assert ran.code == 1
    assert theirs.cluster_id in ran.err
    assert server.objects("Secret", "tendril") == []


@pytest.mark.parametrize(
    ("code", "reason", "exit_code", "said"),
    [
        (403, "Forbidden", 1, "knows this identity, which may not do that"),
        (500, "InternalError", 5, "does not answer"),
    ],
)
def test_a_refusing_api_server_is_named_and_the_next_run_completes(
    built: Bootstrap,
    node: Kubelet,
    server: KubernetesServer,
    code: int,
    reason: str,
    exit_code: int,
    said: str,
) -> None:
    refusal = server.refuse("POST", r"/namespaces$", code, reason, "no namespaces today")
    ran = built()
    assert ran.code == exit_code, ran.err
    assert said in ran.err
    assert "no namespaces today" in ran.err
    server.allow(refusal)
    done = built()
    assert done.code == 0, done.err


def test_an_agent_that_is_never_heard_ends_with_pods_events_words_and_doctor(
    built: Bootstrap, node: Kubelet
) -> None:
    node.breaks["SUPABASE_KEY"] = "not.the.key"
    ran = built("--timeout", "15")
    assert ran.code == 3, ran.err
    _, _, diagnosis = ran.err.partition("no heartbeat of this installation within 15 s")
    for words in (
        "tendril-0: terminated: Error, exit code 1",
        "Warning tendril-0: BackOff: Back-off restarting failed container tendril",
        "last lines of the agent:",
        "Invalid API key",
        "FAIL",
        "to fix",
    ):
        assert words in diagnosis, ran.err
    node.breaks.clear()
    node.restart()
    done = built()
    assert done.code == 0, done.err


def test_a_quota_of_the_cloud_is_explained_and_the_next_run_completes(
    bootstrap: Bootstrap, node: Kubelet, cloud: Cloud
) -> None:
    with refusing(cloud) as proxied:
        bootstrap.cloud = proxied
        proxied.refused["CreateVpc"] = ("VpcLimitExceeded", "The maximum number of VPCs is 5.")
        ran = bootstrap()
        assert ran.code == 1, ran.err
        assert "VpcLimitExceeded" in ran.err
        assert "a quota of the account is used up" in ran.err
        assert "terraform.log" in ran.err
        proxied.refused.clear()
        done = bootstrap()
        assert done.code == 0, done.err
