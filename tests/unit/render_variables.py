"""Writes the tables of variables and outputs in ``docs/templates.md`` from the templates.

``python -m tests.unit.render_variables`` replaces what stands between the page's markers. Reads the
canonical form that ``terraform fmt`` gives, so it needs no parser of HCL.
"""

import re
from pathlib import Path

from tendril_rt import resources

COMMAND = "python -m tests.unit.render_variables"
PAGE = Path(__file__).parents[2] / "docs" / "templates.md"

_BLOCK = re.compile(r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_ATTRIBUTE = r"^  {name} += (.*?)(?=^  \w|^$|\Z)"
_MARKED = re.compile(r"(<!-- (\w+) (variables|outputs) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEADS = {
    "variables": "| variable | type | default | what it is |\n|---|---|---|---|\n",
    "outputs": "| output | what it is |\n|---|---|\n",
}


def rendered(page: str) -> str:
    """Return *page* with every table as the templates have it now."""
    return _MARKED.sub(
        lambda found: f"{found[1]}\n{table(found[2], found[3])}\n{found[4]}",
        page,
    )


def table(template: str, kind: str) -> str:
    """Return the table of one template's ``variables`` or ``outputs``."""
    text = (resources.templates() / template / f"{kind}.tf").read_text(encoding="utf-8")
    row = _variable if kind == "variables" else _output
    return _HEADS[kind] + "".join(row(name, block) for name, block in _BLOCK.findall(text))


def _variable(name: str, block: str) -> str:
    default = _attribute(block, "default")
    shown = "**required**" if default is None else f"`{default}`"
    kind = _attribute(block, "type")
    return f"| `{name}` | `{kind}` | {shown} | {_description(block)} |\n"


def _output(name: str, block: str) -> str:
    sensitive = " (sensitive)" if _attribute(block, "sensitive") == "true" else ""
    return f"| `{name}` | {_description(block)}{sensitive} |\n"


def _description(block: str) -> str:
    text = _attribute(block, "description")
    assert text is not None, f"a variable or output without a description:\n{block}"
    text = text.removeprefix('"').removesuffix('"').replace('\\"', '"')
    return text.replace("|", "\\|").replace("<", "&lt;")


def _attribute(block: str, name: str) -> str | None:
    found = re.search(_ATTRIBUTE.format(name=name), block, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    first, *inner = (line.strip() for line in found[1].strip().splitlines())
    return first + ", ".join(inner[:-1]) + "".join(inner[-1:])


def main() -> None:
    """Write the page."""
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
