"""``tendril doctor``: look at everything that an agent needs, and say what to fix.

Runs beside a working agent on the same folders: takes no lock, sends no heartbeat, leaves no file.
Checks that do not build on each other run side by side, each with a time limit.
"""

import difflib
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, fields

import anyio
import orjson

from tendril_rt.cli import logging
from tendril_rt.cli.doctor_findings import Finding, Level
from tendril_rt.cli.doctor_host import check_git, check_state_dir, check_terraform, check_workspaces
from tendril_rt.cli.doctor_network import check_network
from tendril_rt.errors import ConfigError
from tendril_rt.settings import (
    AgentSettings,
    ControlSettings,
    RunnerSettings,
    Settings,
    from_env,
    variable_of,
)

_LIMIT_S = 60.0
_OTHERS = {"TENDRIL_LOCAL_DATABASE_URL", "TENDRIL_LOCAL_PG_BIN"}  # of other commands
_MARKS = {Level.OK: "ok  ", Level.WARN: "warn", Level.FAIL: "FAIL"}

Check = Callable[[], Awaitable[list[Finding]]]


def doctor(*, as_json: bool) -> int:
    """Check, print, and return 0 if nothing failed (warnings are no failure), else 1."""
    logging.configure("error", "console")
    environ = dict(os.environ)
    findings = check_settings(environ)
    secrets: list[str] = []
    if not any(finding.level is Level.FAIL for finding in findings):
        settings = from_env(environ)
        secrets = [settings.control.api_token, settings.control.api_key]
        logging.configure("critical", "console", secrets=secrets)
        findings += anyio.run(functools.partial(check_all, settings, environ))
    mask = logging.masking(secrets)
    print(mask(_as_json(findings) if as_json else _as_text(findings)))
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0


def check_settings(environ: Mapping[str, str]) -> list[Finding]:
    """Check every variable; name those that no setting has, with the nearest that one has."""
    known = {
        variable_of(item).name
        for component in (ControlSettings, AgentSettings, RunnerSettings)
        for item in fields(component)
    }
    findings: list[Finding] = []
    try:
        from_env(environ)
    except ConfigError as exc:
        cure = "set it as docs/settings.md says; the other checks need all of them"
        findings += [Finding("settings", Level.FAIL, problem, cure) for problem in exc.problems]
    for name in sorted(environ):
        if name.startswith("TENDRIL_") and name not in known | _OTHERS:
            nearest = difflib.get_close_matches(name, known, n=1)
            cure = f"did you mean {nearest[0]}?" if nearest else "remove it"
            findings.append(Finding("settings", Level.WARN, f"{name} is no setting", cure))
    if not findings:
        given = sum(name in known for name in environ)
        findings.append(Finding("settings", Level.OK, f"{given} of {len(known)} set, all legal"))
    return findings


async def check_all(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Run every check but the settings'; return the findings in a fixed order."""
    checks: Sequence[tuple[str, Check]] = (
        ("network", functools.partial(check_network, settings.control)),
        ("git", functools.partial(check_git, settings, environ)),
        ("terraform", functools.partial(check_terraform, settings, environ)),
        ("state", functools.partial(check_state_dir, settings)),
        ("workspaces", functools.partial(check_workspaces, settings)),
    )
    results: list[list[Finding]] = [[] for _ in checks]

    async def run(place: int, name: str, check: Check) -> None:
        with anyio.move_on_after(_LIMIT_S) as scope:
            try:
                results[place] = await check()
            except Exception as exc:  # noqa: BLE001 - the other findings are worth their lines
                text = f"cannot be checked: {type(exc).__name__}: {exc}"
                results[place] = [Finding(name, Level.FAIL, text, "report it, if this is no help")]
        if scope.cancelled_caught:
            text = f"not done after {_LIMIT_S:g} s"
            results[place] = [Finding(name, Level.FAIL, text, "look for what does not answer")]

    async with anyio.create_task_group() as tasks:
        for place, (name, check) in enumerate(checks):
            tasks.start_soon(run, place, name, check)
    return [finding for findings in results for finding in findings]


def _as_json(findings: Sequence[Finding]) -> str:
    ok = not any(finding.level is Level.FAIL for finding in findings)
    return orjson.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}).decode()


def _as_text(findings: Sequence[Finding]) -> str:
    width = max(len(finding.check) for finding in findings)
    indent = " " * (width + 7)
    lines: list[str] = []
    for finding in findings:
        found = finding.found.replace("\n", f"\n{indent}")
        lines.append(f"{_colour(finding.level)} {finding.check:<{width}}  {found}")
        if finding.cure:
            lines.append(f"{indent}→ {finding.cure}")
    count = {level: sum(finding.level is level for finding in findings) for level in Level}
    lines.append(f"\n{count[Level.FAIL]} to fix, {count[Level.WARN]} to look at")
    return "\n".join(lines)


def _colour(level: Level) -> str:
    mark = _MARKS[level]
    if not sys.stdout.isatty():
        return mark
    number = {Level.OK: 32, Level.WARN: 33, Level.FAIL: 31}[level]
    return f"\x1b[{number}m{mark}\x1b[0m"
