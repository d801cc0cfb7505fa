"""The built wheel in an environment of its own: what users install must do what the tests ran."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tendril_rt import __version__

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

TOP = Path(__file__).resolve().parents[2]


def _run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_installed_wheel_has_the_demo_and_both_commands(tmp_path: Path) -> None:
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    _run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, TOP, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    for folder in ("charts", "templates"):
        assert _shipped(wheel, folder) == _run("git", "ls-files", folder, cwd=TOP).splitlines()
    venv.create(tmp_path / "venv", with_pip=True)
    bin_dir = tmp_path / "venv" / "bin"
    _run(
        *(bin_dir / "python", *pip, "install"),
        *("--constraint", TOP / "constraints.txt", f"{wheel}[local,grape]"),
        cwd=tmp_path,
    )

    assert _run(bin_dir / "tendril", "--version", cwd=tmp_path) == f"tendril {__version__}\n"
    assert _run(bin_dir / "grape", "--version", cwd=tmp_path) == f"grape {__version__}\n"
    assert "● success" in _run(bin_dir / "tendril", "demo", "--once", cwd=tmp_path)


def _shipped(wheel: Path, folder: str) -> list[str]:
    """Return what is shipped of *folder*: the same files as in the repository, no more."""
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(archive.namelist())
    return [name.removeprefix("tendril_rt/") for name in names if f"tendril_rt/{folder}/" in name]


def test_an_agent_alone_needs_none_of_the_embedded_plane(tmp_path: Path) -> None:
    """Starting an agent must not import what only the extra ``local`` brings."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('aiohttp', 'psycopg', 'jwt')));"
        "from tendril_rt.cli.main import main; sys.exit(main(['run']))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert shown.returncode == 2, shown.stderr
    assert "TENDRIL_CLUSTER_ID is not set" in shown.stderr
