"""docs/air-gapped.md holds: all goes through the proxy, and trusts the authority that is named."""

import hashlib
import io
import json
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status
from tests.conftest import TENDRIL, RunningPlane

from .agents import Fleet, ended, log_text, snapshot, template_repo
from .git_support import Host, serving_plainly
from .walled_network import Walled, walled_network

pytestmark = pytest.mark.integration

TRELLIS, GIT, MIRROR = "trellis.invalid", "git.invalid", "mirror.invalid"
_NEEDS_A_PROVIDER = """
terraform {
  required_providers { absent = { source = "acme/absent" } }
}
"""


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """What the mirror of providers serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def hosts(tmp_path: Path, plane: RunningPlane, served: Path) -> Iterator[dict[str, int]]:
    """Who is outside, without TLS: name → port."""
    plane_port = urlsplit(plane.url).port
    assert plane_port is not None
    with serving_plainly(Host(tmp_path / "repositories", Path())) as git, _files(served) as mirror:
        yield {TRELLIS: plane_port, GIT: git, MIRROR: mirror}


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


@contextmanager
def _files(folder: Path) -> Iterator[int]:
    """Serve files over HTTP without TLS; yield the port."""
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _environment(walled: Walled) -> dict[str, str]:
    return {**walled.environment(), "SUPABASE_URL": f"https://{TRELLIS}"}


async def test_rest_push_and_git_go_through_the_proxy_and_trust_the_authority(
    fleet: Fleet, user: Owner, hosts: dict[str, int], tmp_path: Path
) -> None:
    template_repo(tmp_path / "repositories" / "templates")
    async with walled_network(tmp_path, hosts) as walled:
        with fleet.agent(**_environment(walled), TENDRIL_POLL_INTERVAL_S="60") as agent:
            await agent.says("broadcast is ready")
            await agent.says("postgres_changes is ready")
            configuration = snapshot(f"https://{GIT}/templates")
            provision_id = await user.create_provision(fleet.cluster.cluster_id, configuration)
            assert (await ended(user, provision_id)).status is Status.SUCCESS, agent.log
    assert {TRELLIS, GIT} == set(walled.passed)


async def test_the_doctor_finds_the_way_through_the_proxy(
    fleet: Fleet, hosts: dict[str, int], tmp_path: Path
) -> None:
    (tmp_path / "agent").mkdir()
    async with walled_network(tmp_path, hosts) as walled:
        env = fleet.environment("agent") | _environment(walled)
        done = await anyio.to_thread.run_sync(
            lambda: subprocess.run(
                [*TENDRIL, "doctor", "--json"], env=env, capture_output=True, text=True, check=False
            )
        )
    answer = json.loads(done.stdout)
    assert answer["ok"] is True, answer
    assert walled.proxy in done.stdout


async def test_without_the_authority_nothing_is_trusted(
    fleet: Fleet, hosts: dict[str, int], tmp_path: Path
) -> None:
    async with walled_network(tmp_path, hosts) as walled:
        with fleet.agent(**_environment(walled) | {"SSL_CERT_FILE": ""}) as agent:
            await agent.says("(?i)certificate verify failed")


async def test_templates_and_providers_come_from_mirrors_behind_the_proxy(
    fleet: Fleet, user: Owner, hosts: dict[str, int], served: Path, tmp_path: Path
) -> None:
    """``init`` checks and unpacks a provider; only ``plan`` runs it, and finds a stand-in."""
    _publish(served / "registry.terraform.io" / "acme" / "absent")
    config = tmp_path / "terraform.rc"
    config.write_text(
        f'provider_installation {{\n  network_mirror {{ url = "https://{MIRROR}/" }}\n}}\n'
    )
    repositories = tmp_path / "repositories" / "templates"
    template_repo(repositories, provided=_NEEDS_A_PROVIDER)
    source = {"repo": "https://github.com/templates", "version": "v1", "path": "provided"}
    _rewritten_for(tmp_path)
    extra = {"TF_CLI_CONFIG_FILE": str(config), "HOME": str(tmp_path)}
    async with walled_network(tmp_path, hosts) as walled:
        with fleet.agent(**_environment(walled), **extra):
            provision_id = await user.create_provision(
                fleet.cluster.cluster_id, snapshot("", template_source=source, terraform_vars={})
            )
            state = await ended(user, provision_id)
    assert "Installed acme/absent v1.0.0" in await log_text(user, provision_id)
    assert "terraform plan failed" in str(state.error_message)
    assert {TRELLIS, GIT, MIRROR} == set(walled.passed)


def _rewritten_for(home: Path) -> None:
    """Have git go inside for what is outside."""
    inside = f"url.https://{GIT}/.insteadOf"
    argv = ["git", "config", "--global", inside, "https://github.com/"]
    subprocess.run(argv, env={**os.environ, "HOME": str(home)}, check=True)


def _publish(folder: Path) -> None:
    """Lay out one version of a provider as the provider network mirror protocol has it."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("terraform-provider-absent_v1.0.0", "#!/bin/sh\n")
    folder.mkdir(parents=True)
    (folder / "absent.zip").write_bytes(packed.getvalue())
    (folder / "index.json").write_text(json.dumps({"versions": {"1.0.0": {}}}))
    digest = "zh:" + hashlib.sha256(packed.getvalue()).hexdigest()
    archives = {f"linux_{machine}": {"url": "absent.zip", "hashes": [digest]}}
    (folder / "1.0.0.json").write_text(json.dumps({"archives": archives}))
