"""The built binaries, and a machine without Python to run them on."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Binaries:
    """:ivar alone: the one file
    :ivar folder: the program of the folder build
    """

    alone: Path
    folder: Path


def build(dist: Path) -> Binaries:
    """Build both, as ``make binary`` does; takes a minute or two."""
    done = subprocess.run(
        [sys.executable, TOP / "binary" / "build.py", "--dist", dist],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Binaries(dist / "tendril", dist / "tendril-demo" / "tendril")


def without_python() -> list[str]:
    """Return what a command is to be prefixed with so that it finds no Python.

    In a mount namespace of its own every interpreter, library and standard library of Python that
    this machine has is hidden below empty folders and files.
    """
    hidden = sorted(set(_pythons()))
    folders = [path for path in hidden if path.is_dir()]
    files = [path for path in hidden if not path.is_dir()]
    lines = [
        "set -e",
        *(f"test ! -d '{path}' || {_tool('mount')} -t tmpfs none '{path}'" for path in folders),
        *(f"test ! -e '{path}' || {_tool('mount')} --bind /dev/null '{path}'" for path in files),
        'exec "$@"',
    ]
    own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [_tool("unshare"), "--mount", *own_user, "/bin/sh", "-c", "\n".join(lines), "sh"]


def _tool(name: str) -> str:
    """Return the path of a program: the commands that are run have a PATH of their own."""
    found = shutil.which(name)
    assert found, f"{name} is not on PATH"
    return found


def _pythons() -> Iterator[Path]:
    environments = {Path(sys.prefix), Path(sysconfig.get_path("stdlib")).resolve()}
    if sys.base_prefix != "/usr":
        environments.add(Path(sys.base_prefix))
    for base in ("/usr/lib", "/usr/local/lib"):
        environments |= {path for path in Path(base).glob("python3*") if path.is_dir()}
    yield from environments
    folders = {Path(name) for name in os.environ["PATH"].split(":")}
    for folder in folders | {Path("/usr/bin"), Path("/usr/local/bin")}:
        for program in folder.glob("python*"):
            if re.fullmatch(r"python[\d.]*", program.name):
                with suppress(OSError):
                    yield program.resolve(strict=True)
    for library in (*Path("/usr/lib").rglob("libpython3*.so*"), *_beside_the_interpreter()):
        if not library.is_symlink():
            yield library


def _beside_the_interpreter() -> Iterator[Path]:
    library = sysconfig.get_config_var("LIBDIR")
    if library:
        yield from Path(library).glob("libpython3*.so*")


def only_tools(folder: Path) -> str:
    """Make a PATH with nothing on it but what an agent's machine must have."""
    folder.mkdir()
    for name in ("git", "terraform", "tofu", "sh", "setsid", "sleep", "cat", "env"):
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    return str(folder)
