"""What operators read is complete: each alert has a cure, each code of a provision its row."""

import re
from pathlib import Path

from tendril_rt import resources

_ROOT = Path(__file__).parents[2]
_SOURCE = _ROOT / "src" / "tendril_rt"
#: Codes of what keeps an agent or a tool from working: no provision ends with them.
_OF_NO_PROVISION = {
    *("INVALID_SETTINGS", "CONTROL_PLANE", "UNAUTHORIZED", "LOCAL_PLANE", "MIGRATION_FAILED"),
}


def _page(name: str) -> str:
    return (_ROOT / "docs" / name).read_text(encoding="utf-8")


def _rows(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def test_each_alert_says_what_to_do() -> None:
    text = _page("operations.md")
    alerts = re.findall(r"^  - alert: (\w+)", text, re.MULTILINE)
    assert [name for name in _rows(text) if name.startswith("Tendril")] == alerts


def test_each_code_that_ends_a_provision_has_its_row() -> None:
    by_agents = {
        *re.findall(r'^    code(?:: \S+)? = "(\w+)"', _text("errors.py"), re.MULTILINE),
        *re.findall(r'"([A-Z]{3,}_?[A-Z_]+)"\)$', _text("agent/outcome.py"), re.MULTILINE),
    }
    by_database = {
        code
        for path in resources.migrations()
        for code in re.findall(r"error_code = '(\w+)'", path.read_text(encoding="utf-8"))
    }
    codes = _rows(_page("errors.md").partition("## State locks")[0])
    assert set(codes) == (by_agents | by_database) - _OF_NO_PROVISION
    assert len(set(codes)) == len(codes)


def _text(module: str) -> str:
    return (_SOURCE / module).read_text(encoding="utf-8")
