"""The page of templates says what the templates take and give."""

import re

import pytest

from tendril_rt import resources
from tests.unit.render_variables import COMMAND, PAGE, rendered, table

TEMPLATES = ("bootstrap", "hello", "standard")


def test_the_tables_say_what_the_templates_do() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == rendered(page), f"run: {COMMAND}"


@pytest.mark.parametrize("kind", ["variables", "outputs"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_variable_and_output_is_in_the_page(template: str, kind: str) -> None:
    """Counted without the renderer's own parser, which a table could otherwise be missing for."""
    text = (resources.templates() / template / f"{kind}.tf").read_text(encoding="utf-8")
    declared = re.findall(rf'^{kind.removesuffix("s")} "(\w+)"', text, re.MULTILINE)
    assert f"<!-- {template} {kind} -->" in PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)`", table(template, kind), re.MULTILINE) == declared
    assert declared


def test_every_template_has_its_tables() -> None:
    shipped = {path.name for path in resources.templates().iterdir() if path.is_dir()}
    assert shipped - {"modules"} == set(TEMPLATES)
