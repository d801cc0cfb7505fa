"""An agent whose program is called ``tofu``: all goes by that name, nothing by ``terraform``.

OpenTofu itself is not in it: a script of that name says the version in OpenTofu's words and hands
everything else to the real Terraform. A ``terraform`` on the same PATH fails, and says that it ran.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Operation, Status
from tests.conftest import TENDRIL, RunningPlane

from .agents import Fleet, ended, snapshot, template_repo
from .attempts import PROGRAM, Bench
from .state_server import state_server

pytestmark = pytest.mark.integration

_VERSION = "OpenTofu v1.9.0"
_TOFU = """#!/bin/sh
printf '%s|%s\\n' "$*" "$TF_CLI_CONFIG_FILE" >>'{calls}'
if [ "$1" = version ]; then printf '{version}\\non linux_amd64\\n'; exit; fi
exec '{real}' "$@"
"""
_TRAP = """#!/bin/sh
touch '{calls}.trapped'
exit 99
"""


@dataclass(frozen=True)
class Tofu:
    """A folder for PATH with ``tofu``, and a ``terraform`` that must not run."""

    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Tofu":
        folder.mkdir()
        tofu = cls(folder)
        for name, script in (("tofu", _TOFU), ("terraform", _TRAP)):
            text = script.format(calls=tofu._calls, version=_VERSION, real=PROGRAM)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        return tofu

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ['PATH']}"

    @property
    def calls(self) -> Sequence[tuple[str, str]]:
        """Each call's arguments, and the CLI configuration that it got."""
        assert not Path(f"{self._calls}.trapped").exists(), "terraform was run"
        lines = (line.rpartition("|") for line in self._calls.read_text().splitlines())
        return [(arguments, config) for arguments, _, config in lines]

    @property
    def _calls(self) -> Path:
        return self.folder / "calls"


@pytest.fixture
def tofu(tmp_path: Path) -> Tofu:
    return Tofu.made_in(tmp_path / "tofu-bin")


async def test_an_agent_runs_tofu_alone_and_records_its_version(
    plane: RunningPlane, cluster: Registration, user: Owner, tmp_path: Path, tofu: Tofu
) -> None:
    repo = template_repo(tmp_path / "repo")
    settings = {
        "PATH": tofu.path,
        "TENDRIL_TERRAFORM": "tofu",
        "TENDRIL_PLUGIN_CACHE_DIR": str(tmp_path / "cache"),
    }
    with Fleet(plane, cluster, tmp_path).agent(**settings) as agent:
        provision_id = await user.create_provision(cluster.cluster_id, snapshot(repo))
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message
    with psycopg.connect(plane.database_url) as connection:
        (version,) = connection.execute(
            "select execution_metadata ->> 'terraform_version' from provisions where id = %s",
            (provision_id,),
        ).fetchone() or ("",)
    assert version == _VERSION
    assert [arguments.split()[0] for arguments, _ in tofu.calls] == [
        *("version", "init", "plan", "apply", "output")
    ]
    assert {config for _, config in tofu.calls} == {str(agent.state_dir / "terraform.tfrc")}


def test_doctor_looks_at_tofu(
    plane: RunningPlane, cluster: Registration, tmp_path: Path, tofu: Tofu
) -> None:
    (tmp_path / "agent").mkdir()
    environ = Fleet(plane, cluster, tmp_path).environment("agent")
    done = subprocess.run(
        [*TENDRIL, "doctor", "--json"],
        env={**environ, "PATH": tofu.path, "TENDRIL_TERRAFORM": "tofu"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [check for check in json.loads(done.stdout)["checks"] if check["check"] == "terraform"]
    assert found[0]["level"] == "ok"
    assert f"{_VERSION} ({tofu.folder}/tofu)" in str(found[0])
    assert tofu.calls[0][0] == "version"


async def test_the_printed_command_unlocks_by_tofu(tmp_path: Path, tofu: Tofu) -> None:
    with state_server() as store:
        bench = Bench(tmp_path / "bench", program=str(tofu.folder / "tofu"))
        bench.templates(remote=store.backend())
        store.lock = json.dumps(
            {
                **{"ID": "abc-1", "Operation": "OperationTypeApply", "Info": "", "Path": ""},
                **{"Who": "jane@laptop", "Version": "1.9.0"},
                "Created": "2026-01-01T00:00:00.123456789Z",
            }
        ).encode()

        said = await bench.run(bench.provision("remote", operation=Operation.PLAN))

        found = re.search(r"tofu force-unlock -force abc-1$", said.message, re.MULTILINE)
        assert found, said.message
        _run_as_told(found[0], tmp_path / "by-hand", store.backend(), tofu)
        assert store.lock is None
    assert tofu.calls[-1][0] == "force-unlock -force abc-1"


def _run_as_told(command: str, folder: Path, backend: str, tofu: Tofu) -> None:
    """Do what the advice says in an initialised root module, as its reader would."""
    folder.mkdir()
    (folder / "main.tf").write_text(backend)
    subprocess.run(
        ["/bin/sh", "-c", f"tofu init -input=false && {command}"],
        cwd=folder,
        env={**os.environ, "PATH": tofu.path},
        check=True,
        capture_output=True,
    )
