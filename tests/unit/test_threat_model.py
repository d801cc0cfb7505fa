"""docs/threat-model.md: what it says is shown by a test, is."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
CITED = re.findall(r"`((?:tests|sql/tests)/[\w/]+\.(?:py|sql))::([^`]+)`", TEXT)


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests, or of the scenarios, in a file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".sql"):
        return frozenset(re.findall(r"^-- scenario: (.+)$", text, re.MULTILINE))
    functions = (
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


@pytest.mark.parametrize(("path", "name"), sorted(set(CITED)))
def test_what_is_cited_exists(path: str, name: str) -> None:
    assert name in names_in(path)


def test_every_claim_that_holds_cites_a_test() -> None:
    sections = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    adversaries = [section for section in sections if section.startswith("(")]

    assert [section[:3] for section in adversaries] == [f"({letter})" for letter in "abcdefgh"]
    for section in adversaries:
        claims = re.findall(r"^\| (?!claim )(.+?) \| (.+) \|$", section, re.MULTILINE)
        assert claims
        assert [claim for claim, shown in claims if "::" not in shown] == []
        assert "does not hold" in section
        assert "**Cure**" in section


def test_a_missing_test_would_be_noticed() -> None:
    assert "test_of_nothing" not in names_in("tests/unit/test_threat_model.py")
    assert "test_what_is_cited_exists" in names_in("tests/unit/test_threat_model.py")
    assert names_in("sql/tests/25_signature.sql")
