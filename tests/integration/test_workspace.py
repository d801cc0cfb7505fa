"""The private directory of an attempt: who may read it, who may hold it, and when it goes."""

import os
import re
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import WorkspaceError
from tendril_rt.model import Operation, ProvisionId
from tendril_rt.runner import terraform
from tendril_rt.runner.attended import StopRequest
from tendril_rt.runner.backend import StackDir
from tendril_rt.runner.environment import child_environment
from tendril_rt.runner.steps import STOP_POLICIES
from tendril_rt.runner.terraform import Terraform
from tendril_rt.runner.workspace import leftovers, release, remove, workspace

from .runner_support import open_descriptors, recording

pytestmark = pytest.mark.integration

_ID = ProvisionId("5f0c1f5e-7a53-4f1c-9e1c-0d9a4a4f2b10")
_OTHER_ID = ProvisionId("5f0c1f5e-7a53-4f1c-9e1c-0d9a4a4f2b11")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "new" / "workspaces"


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


async def test_only_its_owner_may_enter(base: Path) -> None:
    async with workspace(base, _ID) as space:
        assert space.root == base / _ID
        assert _mode(space.root) == 0o700
        assert _mode(base) == 0o700


async def test_it_is_empty_and_the_templates_folder_is_left_for_git_to_make(base: Path) -> None:
    async with workspace(base, _ID) as space:
        assert _names_in(space.root) == []
        assert space.templates == space.root / "templates"


async def test_what_an_earlier_attempt_left_is_removed_first(base: Path) -> None:
    left = base / _ID / "templates" / ".git"
    left.mkdir(parents=True, mode=0o500)
    (base / _ID / "terraform.tfvars.json").write_text('{"password": "hunter2"}')

    async with workspace(base, _ID) as space:
        assert _names_in(space.root) == []
        assert _mode(space.root) == 0o700


async def test_a_second_holder_is_refused_and_disturbs_nothing(base: Path) -> None:
    async with workspace(base, _ID) as space:
        (space.root / "state").write_text("mine")

        with pytest.raises(WorkspaceError, match=r"in use by another agent.*TENDRIL_WORKSPACE_DIR"):
            async with workspace(base, _ID):
                pass

        assert (space.root / "state").read_text() == "mine"


async def test_the_next_attempt_may_hold_it_when_the_first_is_done(base: Path) -> None:
    for _ in range(2):
        async with workspace(base, _ID) as space:
            assert space.root.is_dir()


async def test_two_provisions_have_one_each(base: Path) -> None:
    async with workspace(base, _ID) as one, workspace(base, _OTHER_ID) as other:
        (one.root / "file").write_text("")
        assert _names_in(other.root) == []

    assert _names_in(base) == []


async def test_nothing_is_left_at_the_end(base: Path) -> None:
    async with workspace(base, _ID) as space:
        space.templates.mkdir()
        (space.templates / "main.tf").write_text("")

    assert _names_in(base) == []


async def test_nothing_is_left_when_the_attempt_fails(base: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with workspace(base, _ID):
            raise ZeroDivisionError

    assert _names_in(base) == []


async def test_nothing_is_left_when_the_attempt_is_cancelled(base: Path) -> None:
    with anyio.CancelScope() as scope:
        async with workspace(base, _ID) as space:
            (space.root / "file").write_text("")
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert _names_in(base) == []


async def test_a_link_in_its_place_is_neither_followed_nor_emptied(
    base: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    link = base / _ID
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)

    with pytest.raises(WorkspaceError, match="cannot make the workspace"):
        async with workspace(base, _ID):
            pass

    assert (precious / "file").read_text() == "kept"


async def test_a_base_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    base = tmp_path / "file" / "workspaces"

    with pytest.raises(WorkspaceError) as caught:
        async with workspace(base, _ID):
            pass

    assert str(base / _ID) in str(caught.value)
    assert "TENDRIL_WORKSPACE_DIR" in str(caught.value)


async def test_no_descriptor_is_left_open_by_success_or_refusal(base: Path) -> None:
    async with workspace(base, _ID):
        before = open_descriptors()
        for _ in range(10):
            with pytest.raises(WorkspaceError):
                async with workspace(base, _ID):
                    pass
            async with workspace(base, _OTHER_ID):
                pass

        assert open_descriptors() == before


async def test_folders_that_a_template_made_read_only_go_too(base: Path) -> None:
    async with workspace(base, _ID) as space:
        folder = space.templates / "a" / "b"
        folder.mkdir(parents=True)
        (folder / "file").write_text("")
        for path in (folder, folder.parent):
            path.chmod(0o500)

    assert _names_in(base) == []


# --- what agents that are gone left behind --------------------------------------------------------


@dataclass(frozen=True)
class KilledAgent:
    """An agent that was killed in the middle of an attempt."""

    base: Path

    def leaves(self, provision_id: ProvisionId) -> Path:
        """Make what is left of *provision_id*; return a file in it."""
        file = self.base / provision_id / "templates" / "main.tf"
        file.parent.mkdir(parents=True)
        file.write_text("")
        (self.base / f"{provision_id}.lock").touch()
        return file


@pytest.fixture
def killed(base: Path) -> KilledAgent:
    base.mkdir(parents=True)
    return KilledAgent(base)


async def test_what_nobody_holds_is_found_and_what_somebody_holds_is_not(
    base: Path, killed: KilledAgent
) -> None:
    file = killed.leaves(_ID)
    async with workspace(base, _OTHER_ID) as held:
        (found,) = leftovers(base)
        assert found.provision_id == _ID
        assert found.workspace.templates == file.parent
        remove(found)
        assert held.root.is_dir()

        assert leftovers(base) == []
    assert _names_in(base) == []


async def test_what_was_found_is_held_until_it_is_let_go(base: Path, killed: KilledAgent) -> None:
    file = killed.leaves(_ID)
    (found,) = leftovers(base)

    assert leftovers(base) == []
    with pytest.raises(WorkspaceError, match="in use"):
        async with workspace(base, _ID):
            pass
    release(found)

    assert file.exists()
    (again,) = leftovers(base)
    remove(again)


async def test_what_was_left_can_be_taken_up_as_it_is(base: Path, killed: KilledAgent) -> None:
    file = killed.leaves(_ID)

    async with workspace(base, _ID, keep=True) as space:
        assert space.root == base / _ID
        assert file.exists()
        with pytest.raises(WorkspaceError, match="in use"):
            async with workspace(base, _ID):
                pass

    assert _names_in(base) == []


async def test_the_lock_of_an_agent_that_is_killed_is_free_at_once(base: Path) -> None:
    program = (
        "import anyio, pathlib, signal, sys, os\n"
        "from tendril_rt.runner.workspace import workspace\n"
        "async def main():\n"
        f"    async with workspace(pathlib.Path({str(base)!r}), {str(_ID)!r}):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "anyio.run(main)\n"
    )
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", program], check=False)
    )
    assert done.returncode == -signal.SIGKILL

    (found,) = leftovers(base)
    remove(found)

    assert found.provision_id == _ID
    assert _names_in(base) == []


async def test_what_is_not_ours_is_never_touched(base: Path, killed: KilledAgent) -> None:
    for name in ("somebody", "somebody.lock", f"{_ID}", "x.lock"):
        (base / name).mkdir()
    (base / "file.lock").write_text("")
    (base / f"{_OTHER_ID}.lock").touch()  # of an attempt that died before it made its folder

    assert leftovers(base) == []
    assert sorted(_names_in(base)) == sorted(
        ["somebody", "somebody.lock", _ID, "x.lock", "file.lock"]
    )


async def test_a_base_that_is_not_there_holds_nothing(base: Path) -> None:
    assert leftovers(base) == []


async def test_finding_and_removing_leaves_no_descriptor_open(killed: KilledAgent) -> None:
    before = open_descriptors()
    for provision_id in (_ID, _OTHER_ID):
        killed.leaves(provision_id)
    for found in leftovers(killed.base):
        remove(found)

    assert open_descriptors() == before


# --- secrets on disk ------------------------------------------------------------------------------

_LISTING = """
terraform {
  backend "local" {}
}
variable "password" {}
resource "terraform_data" "listing" {
  provisioner "local-exec" { command = "find . -maxdepth 1 -type f -printf 'mode %m %f\\n'" }
}
"""


async def test_files_with_secrets_are_private_while_it_runs_and_gone_afterwards(
    base: Path, tmp_path: Path
) -> None:
    source = '{"repo": "https://example.com/x", "version": "v1"}'
    backend = f'{{"path": "{tmp_path}/state/terraform.tfstate"}}'
    snapshot = parse_snapshot(
        f'{{"template_source": {source}, "terraform_vars": {{"password": "hunter22"}}, '
        f'"sensitive": ["password"], "backend_config": {backend}}}'
    )
    with recording(tmp_path / "spool") as output:
        async with workspace(base, _ID) as space:
            space.templates.mkdir()
            (space.templates / "main.tf").write_text(_LISTING)
            run = Terraform(
                program=terraform.find("auto", os.environ["PATH"]),
                root_module=space.templates,
                run_root=space.run_root,
                env=child_environment(os.environ),
                stack=StackDir.make(tmp_path / "tfstate", "stack"),
                default_backend=None,
                output=output.reader,
                request=StopRequest(),
            )
            run.write_inputs(snapshot)
            await run.init(STOP_POLICIES["init"])
            await run.plan(Operation.APPLY, STOP_POLICIES["plan"])
            await run.apply(STOP_POLICIES["apply"])
        modes = {name: mode for mode, name in re.findall(r"mode (\d+) (\S+)", output.stdout)}

    assert modes["terraform.tfvars.json"] == "600"
    assert modes["tendril.backend.tfvars"] == "600"
    assert _names_in(base) == []
