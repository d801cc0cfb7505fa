"""Writes ``docs/settings.md`` from the settings' own metadata.

``python -m tests.unit.render_settings > docs/settings.md``
"""

import dataclasses
import sys

from tendril_rt.settings import (
    AgentSettings,
    ControlSettings,
    LogSettings,
    RunnerSettings,
    variable_of,
)

COMPONENTS = (ControlSettings, AgentSettings, RunnerSettings, LogSettings)
COMMAND = "python -m tests.unit.render_settings > docs/settings.md"

_HEAD = f"""\
# Settings

Every setting of `tendril run` is an environment variable. A variable that is empty counts as
absent; an unknown one is left alone. The agent refuses to start with an illegal one, and then lists
every problem at once. `TENDRIL_*` and `SUPABASE_*` are never handed to git, Terraform or a
template.

This page is made from `src/tendril_rt/settings.py` by `{COMMAND}`.
"""


def settings_page() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *map(_section, COMPONENTS)])


def default_text(item: dataclasses.Field[object]) -> str | None:
    """Return the default as one would write it in the environment; None if it must be set."""
    if item.default is dataclasses.MISSING:
        return None
    if item.default is None:
        return ""
    if isinstance(item.default, bool):
        return str(item.default).lower()
    if isinstance(item.default, float):
        return f"{item.default:g}" if item.default < 1e6 else str(int(item.default))
    if isinstance(item.default, tuple):
        return ",".join(item.default)
    return str(item.default)


def _section(
    component: type[ControlSettings | AgentSettings | RunnerSettings | LogSettings],
) -> str:
    title, _, _ = (component.__doc__ or "").partition("\n")
    rows = "\n".join(_row(item) for item in dataclasses.fields(component))
    return f"## {title.rstrip('.')}\n\n| variable | default | meaning |\n|---|---|---|\n{rows}\n"


def _row(item: dataclasses.Field[object]) -> str:
    variable, default = variable_of(item), default_text(item)
    shown = "*required*" if default is None else f"`{default}`" if default else "*none*"
    secret = " (secret)" if variable.secret else ""
    return f"| `{variable.name}` | {shown} | {variable.doc.replace('|', '&#124;')}{secret} |"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
