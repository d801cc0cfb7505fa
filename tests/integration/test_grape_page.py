"""``docs/grape.md`` shows what grape prints: every transcript is run again."""

import argparse
from pathlib import Path

import pytest

from tendril_rt.cli.grape import parser
from tests.conftest import RunningPlane

from .grape_page import COMMAND, grape_page, same

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[2] / "docs" / "grape.md"


@pytest.mark.long
def test_every_transcript_of_the_page_is_what_grape_prints(
    plane: RunningPlane, tmp_path: Path
) -> None:
    seen = grape_page(plane, tmp_path)
    assert same(PAGE.read_text(encoding="utf-8")) == same(seen), f"run: {COMMAND}"


def _names(whole: argparse.ArgumentParser, before: str = "grape") -> list[str]:
    """Return every command and action that *whole* knows."""
    found = []
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found += _names(inner, f"{before} {name}")
    return found or [before]


def test_the_page_names_every_command() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in _names(parser()) if name not in page] == []
