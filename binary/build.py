"""Build the binaries: ``python binary/build.py`` (``make binary``).

They are made from the wheel, so that they hold exactly what it holds. Leaves in ``dist/``: the
one-file ``tendril`` and the folder ``tendril-demo``. Needs the extras ``local``, ``grape`` and
``dev``, a Python with a shared library, and binutils.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_TOP = _HERE.parent


def main() -> None:
    """Build both; raise CalledProcessError with the failed command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dist", type=Path, default=_TOP / "dist", help="where they go")
    parser.add_argument("--work", type=Path, default=_TOP / "build" / "binary")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    package = _package(work)
    subprocess.run(
        [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"),
            *("--distpath", arguments.dist.resolve(), "--workpath", work / "pyinstaller"),
            _HERE / "tendril.spec",
        ],
        check=True,
        # What is built must not depend on what lies in the caller's PYTHONPATH.
        env={**os.environ, "PYTHONPATH": str(package), "TENDRIL_PACKAGE": str(package)},
    )


def _package(work: Path) -> Path:
    """Build the wheel and return the folder that it is unpacked in."""
    shutil.rmtree(work / "wheel", ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    subprocess.run([*pip, "--no-deps", "--wheel-dir", work / "wheel", _TOP], check=True)
    (wheel,) = (work / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "wheel" / "package")
    return work / "wheel" / "package"


if __name__ == "__main__":
    main()
