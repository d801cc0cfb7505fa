"""Where the files shipped with the package are: inside the wheel, or at the top of the checkout.

``sql/``, ``templates/`` and ``charts/`` are force-included into the wheel, which an editable
install does not see; so both places are looked at. Reads files; knows no database.
"""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent


@cache
def root() -> Path:
    """Return the folder that holds ``migrations/`` and ``queries/``.

    :raises FileNotFoundError: the installation is broken; reinstall the package
    """
    return _find("sql")


@cache
def templates() -> Path:
    """Return the folder of the templates shipped with the package.

    :raises FileNotFoundError: the installation is broken; reinstall the package
    """
    return _find("templates")


@cache
def chart() -> Path:
    """Return the folder of the Helm chart of agents.

    :raises FileNotFoundError: the installation is broken; reinstall the package
    """
    return _find("charts") / "tendril"


def migrations() -> list[Path]:
    """Return every migration, in the order in which they apply."""
    return sorted((root() / "migrations").glob("[0-9]*_*.sql"))


@cache
def read(name: str) -> str:
    """Return the text of ``sql/<name>``, for example ``queries/provisions.sql``."""
    return (root() / name).read_text(encoding="utf-8")


def _find(name: str) -> Path:
    for candidate in (_HERE / name, _HERE.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"the folder {name}/ is missing beside {_HERE}: the installation is incomplete, reinstall"
    )
