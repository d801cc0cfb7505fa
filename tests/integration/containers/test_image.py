"""The image by itself: what is in it, what it refuses, what it shows, how it ends."""

import io
import tarfile
import time

import pytest

from tendril_rt import __version__
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status
from tests.integration.agents import ended, eventually, log_text, snapshot

from .engine import LABELS, MARKS, Engine, build, exit_code_of
from .stage import REPO, Agents

pytestmark = MARKS

#: The image's own check, each second; in nanoseconds.
_OFTEN = {"test": [], "interval": 10**9, "timeout": 5 * 10**9}
_MAX_BYTES = 420_000_000  # on CI's stand-in for the base (docs/container.md)


async def test_a_locked_down_container_runs_a_provision(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    with agents.agent(cluster) as agent:
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(REPO))

        assert (await ended(user, provision_id)).status is Status.SUCCESS
        status = agent.run("cat", "/proc/self/status")
        config = agent.container.attrs["HostConfig"]
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert config["ReadonlyRootfs"]


def test_it_says_what_it_is(engine: Engine) -> None:
    image = engine.client.images.get(engine.agent_image)
    config = image.attrs["Config"]

    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"][0] == "tini"
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"]) == 40
    assert image.attrs["Size"] < _MAX_BYTES


def _ran(engine: Engine, image: str, command: str = "") -> tuple[int, str]:
    """Run an image, or a command of the shell in it; return its exit code and what it said."""
    instead = {"entrypoint": ["sh", "-c", command]} if command else {}
    container = engine.client.containers.run(
        image, labels=LABELS, read_only=True, detach=True, **instead
    )
    try:
        container.wait(timeout=60)
        return exit_code_of(container), container.logs().decode()
    finally:
        container.remove(force=True, v=True)


def test_missing_settings_are_all_named(engine: Engine) -> None:
    code, said = _ran(engine, engine.agent_image)

    assert code == 2
    for name in ("TENDRIL_CLUSTER_ID", "TENDRIL_API_TOKEN", "SUPABASE_URL", "SUPABASE_KEY"):
        assert f"{name} is not set" in said
    assert "Traceback" not in said


async def test_a_wrong_token_is_said(agents: Agents, cluster: Registration) -> None:
    with agents.agent(cluster, TENDRIL_API_TOKEN="tdl_wrong") as agent:
        agent.container.wait(timeout=60)
        code, said = exit_code_of(agent.container), agent.log

    assert code == 1
    assert "TENDRIL_API_TOKEN" in said
    assert "Traceback" not in said


async def test_it_is_healthy_and_stops_at_once_when_idle(
    agents: Agents, cluster: Registration
) -> None:
    with agents.agent(cluster, options={"healthcheck": _OFTEN}) as agent:

        async def healthy() -> bool | None:
            agent.container.reload()
            return True if agent.container.attrs["State"]["Health"]["Status"] == "healthy" else None

        await agent.says("online")
        await eventually(healthy, "it did not become healthy", lambda: agent.log)
        began = time.monotonic()
        code = await agent.stopped(timeout_s=20)
        took_s = time.monotonic() - began
    assert code == 0
    assert took_s < 3


async def test_a_stuck_agent_is_unhealthy(agents: Agents, cluster: Registration) -> None:
    with agents.agent(cluster) as agent:
        await agent.says("online")
        agent.run("sh", "-c", "kill -STOP $(grep -lx tendril /proc/[0-9]*/comm | cut -d/ -f3)")

        code, said = agent.container.exec_run(["tendril", "health"])

    assert code == 1
    assert b"no answer from 127.0.0.1 port 8080" in said


async def test_no_template_finds_the_token_in_a_process(
    agents: Agents, cluster: Registration, user: Owner
) -> None:
    """Neither in tini, nor in the agent, nor in checks of its health, which come and go."""
    source = {"repo": REPO, "version": "v1", "path": "curious"}
    configuration = snapshot(REPO, template_source=source, terraform_vars={})
    with agents.agent(cluster, options={"healthcheck": _OFTEN}) as agent:
        provision_id = await user.create_provision(cluster.cluster_id, configuration)

        assert (await ended(user, provision_id)).status is Status.SUCCESS
        assert "templates can read" not in agent.log
        code, _ = agent.container.exec_run(["cat", "/proc/1/environ"])
    log = await log_text(user, provision_id)
    assert code == 1
    assert ": mark in /proc/" in log  # of its own processes, so it can look
    assert ": token in /proc/" not in log


@pytest.mark.parametrize(
    ("program", "is_readable"),
    [("tini", False), ("/opt/tendril/bin/python", False), ("python3", True)],
)
def test_what_holds_the_token_cannot_be_read_and_what_templates_run_can(
    engine: Engine, program: str, is_readable: bool
) -> None:
    """An agent finds what a template left by its environment, which a template must not hide."""
    code, _ = _ran(engine, engine.agent_image, f'head -c 4 "$(command -v {program})"')

    assert (code == 0) is is_readable


@pytest.mark.parametrize("program", ["git", "ssh", "terraform"])
def test_what_runs_need_is_there(engine: Engine, program: str) -> None:
    assert _ran(engine, engine.agent_image, f"command -v {program} >/dev/null") == (0, "")


def test_opentofu_comes_in_by_two_arguments(engine: Engine) -> None:
    """With a stand-in for its official image: what is shown is where the program lands."""
    stand_in = "tofu-stand-in:tests"
    content = b"#!/bin/sh\necho OpenTofu v1.10.0\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("usr/local/bin/tofu")
        entry.size, entry.mode = len(content), 0o755
        archive.addfile(entry, io.BytesIO(content))
    engine.client.api.import_image_from_data(packed.getvalue(), *stand_in.split(":"))
    image = build(
        "tendril-tofu:tests",
        "agent",
        TERRAFORM_IMAGE=stand_in,
        TERRAFORM_PROGRAM="/usr/local/bin/tofu",
    )
    said = _ran(engine, image, "tofu version; command -v terraform || echo no terraform")
    assert said == (0, "OpenTofu v1.10.0\nno terraform\n")
