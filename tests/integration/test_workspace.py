"""The private directory of an attempt: who may read it, who may hold it, and when it goes."""

import stat
from pathlib import Path

import anyio
import pytest

from tendril_rt.errors import WorkspaceError
from tendril_rt.model import ProvisionId
from tendril_rt.runner.workspace import workspace

from .runner_support import open_descriptors

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
