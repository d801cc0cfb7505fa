"""What is built from the sources, installed where nothing else is: users get what the tests ran."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tendril_rt import __version__

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(600)]

TOP = Path(__file__).resolve().parents[2]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
CONSTRAINTS = ("--constraint", str(TOP / "constraints.txt"))


def _run(*argv: str | Path, cwd: Path, **extra: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        argv, cwd=cwd, env=env | extra, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, TOP, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    _run(sys.executable, "-m", "build", "--sdist", "--outdir", folder, TOP, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


def _tracked(*folders: str) -> set[str]:
    return set(_run("git", "ls-files", *folders, cwd=TOP).splitlines())


def _demonstrates(bin_dir: Path, cwd: Path) -> None:
    assert _run(bin_dir / "tendril", "--version", cwd=cwd) == f"tendril {__version__}\n"
    assert _run(bin_dir / "grape", "--version", cwd=cwd) == f"grape {__version__}\n"
    assert "● success" in _run(bin_dir / "tendril", "demo", "--once", cwd=cwd)


def test_the_wheel_holds_what_the_repository_holds_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("tendril_rt/")}
    sources = {name.removeprefix("src/") for name in _tracked("src")}
    beside = {f"tendril_rt/{name}" for name in _tracked("sql", "templates", "charts")}
    assert names == sources | beside


def test_a_wheel_can_be_built_from_the_sdist_alone(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert _tracked("src", "sql", "templates", "charts") | {"LICENSE", "pyproject.toml"} <= names
    assert not {name for name in names if name.startswith(("tests/", ".ci/", "bench/"))}


def test_pipx_installs_the_wheel_with_the_demo_and_both_commands(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "pipx", with_pip=True)
    python = tmp_path / "pipx" / "bin" / "python"
    _run(python, *PIP, "install", "pipx>=1.7", cwd=tmp_path)
    folders = {f"PIPX_{name}": str(tmp_path / name) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    pipx = (python, "-m", "pipx")
    constrained = ("--pip-args", " ".join(CONSTRAINTS))
    wanted = f"tendril-rt[local,grape] @ {wheel.as_uri()}"
    install = (*pipx, "install", "--python", sys.executable, *constrained, wanted)
    _run(*install, cwd=tmp_path, **folders)
    _demonstrates(tmp_path / "BIN_DIR", tmp_path)
    _run(*pipx, "upgrade", *constrained, "tendril-rt", cwd=tmp_path, **folders)


def test_the_sdist_installs_with_the_demo_and_both_commands(sdist: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    bin_dir = tmp_path / "venv" / "bin"
    wanted = f"tendril-rt[local,grape] @ {sdist.as_uri()}"
    _run(bin_dir / "python", *PIP, "install", *CONSTRAINTS, wanted, cwd=tmp_path)
    _demonstrates(bin_dir, tmp_path)


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
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP / "src")},
    )
    assert shown.returncode == 2, shown.stderr
    assert "TENDRIL_CLUSTER_ID is not set" in shown.stderr
