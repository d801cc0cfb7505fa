"""Whom AWS takes grape for: before anything is made, and without Terraform."""

import base64
import json
import uuid
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import RunningPlane
from tests.integration.grape_support import Grape, new_grape
from tests.integration.kubernetes_server import KubernetesServer

from .bootstrapping import REGION, Bootstrap
from .cloud import Cloud
from .refusing_cloud import refusing

pytestmark = [pytest.mark.aws, pytest.mark.long, pytest.mark.timeout(120)]


@pytest.fixture
def grape(plane: RunningPlane, tmp_path: Path) -> Grape:
    return new_grape(plane, tmp_path / "home").sign_in()


@pytest.fixture
def bootstrap(grape: Grape, cloud: Cloud, tmp_path: Path) -> Bootstrap:
    (tmp_path / "kubeconfig").touch()
    return Bootstrap(grape, cloud, KubernetesServer(), tmp_path, f"g{uuid.uuid4().hex[:8]}")


def test_without_credentials_nothing_begins(bootstrap: Bootstrap) -> None:
    bootstrap.extra = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    ran = bootstrap()
    assert ran.code == 2, ran.err
    assert "AWS knows nobody here" in ran.err
    assert "aws sso login" in ran.err
    assert not (bootstrap.data / "terraform.log").exists()


def test_a_profile_that_is_not_there_is_named(bootstrap: Bootstrap) -> None:
    ran = bootstrap("--profile", "nobody")
    assert ran.code == 2, ran.err
    assert "nobody" in ran.err


def test_a_role_that_may_not_be_assumed_is_refused_with_its_cure(
    bootstrap: Bootstrap, cloud: Cloud
) -> None:
    with refusing(cloud) as proxied:
        bootstrap.cloud = proxied
        proxied.refused["AssumeRole"] = ("AccessDenied", "You may not assume it.")
        ran = bootstrap("--role-arn", "arn:aws:iam::210987654321:role/bootstrap")
    assert ran.code == 1, ran.err
    assert "AWS refused AssumeRole (AccessDenied): You may not assume it." in ran.err
    assert "docs/bootstrap.md" in ran.err


def test_a_cloud_that_does_not_answer_is_said_so(bootstrap: Bootstrap) -> None:
    bootstrap.extra = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    ran = bootstrap()
    assert ran.code == 5, ran.err
    assert "AWS cannot be reached" in ran.err


def test_a_bootstrap_goes_on_in_its_own_account_only(bootstrap: Bootstrap) -> None:
    bootstrap.data.mkdir(mode=0o700)
    facts = {"facts": {"account": "210987654321", "region": REGION}}
    (bootstrap.data / "journal.jsonl").write_text(json.dumps(facts) + "\n")
    ran = bootstrap()
    assert ran.code == 2, ran.err
    assert "was begun in account 210987654321" in ran.err


def test_a_dry_run_prints_every_step_and_touches_nothing(bootstrap: Bootstrap) -> None:
    bootstrap.extra = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    ran = bootstrap("--dry-run", "--json")
    assert ran.code == 0, ran.err
    steps = [action["step"] for action in json.loads(ran.out)["actions"]]
    assert steps == [
        *("identity", "infrastructure", "kubeconfig", "namespace"),
        *("cluster", "token", "chart", "heartbeat"),
    ]
    assert not bootstrap.data.exists()


def test_a_token_for_the_cluster_is_a_signed_question_who_we_are(
    grape: Grape, cloud: Cloud
) -> None:
    ran = grape("eks-token", "--cluster", "acme", "--region", REGION, **cloud.environment)
    assert ran.code == 0, ran.err
    token = json.loads(ran.out)["status"]["token"]
    assert token.startswith("k8s-aws-v1.")
    encoded = token.removeprefix("k8s-aws-v1.")
    url = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{cloud.url}/?")
    assert (asked["Action"], asked["X-Amz-Expires"]) == ("GetCallerIdentity", "60")
    assert asked["X-Amz-SignedHeaders"] == "host;x-k8s-aws-id"
    assert asked["X-Amz-Credential"].split("/")[2:] == [REGION, "sts", "aws4_request"]
