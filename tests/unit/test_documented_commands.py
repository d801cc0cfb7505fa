"""Every command in the documentation is run by a test, or marked with what it needs beyond one.

A command is a line of a block fenced as ``sh`` (of ``console``: after ``$``), and a line of any
other block that begins with a program that we know. It is run by a test if it begins as a row of
``documented_commands.txt`` does; a block that needs what no test has says so behind its language:
``sh needs-cloud``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

#: What a block may say that it needs.
NEEDS = {
    "needs-cloud": "an account at a cloud, and its cost",
    "needs-cluster": "a Kubernetes cluster",
    "needs-docker": "a Docker engine",
    "needs-network": "registries that no test reaches",
    "needs-supabase": "a project at Supabase",
}
_TABLE = Path(__file__).with_name("documented_commands.txt").read_text(encoding="utf-8")
#: How a command begins → the test that runs it, or the file of CI that does.
RUN_BY = dict(
    line.split(" <- ") for line in _TABLE.splitlines() if line and not line.startswith("#")
)
_FENCE = re.compile(r"^ *```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL)
_PROGRAMS = re.compile(
    r"(?:make|tendril|grape|pipx?|pytest|python3?|psql|git|terraform|tofu|docker|kubectl|helm|aws"
    r"|supabase|systemctl|curl) +[\w./<'\"-]"
)
#: Lines that start no program: the shell's own words and variables.
_SHELLS = re.compile(r"(?:export |for |do$|done$|if |fi$|cd |[A-Za-z_]+=\S*(?:$| +[A-Z_]+=|\$\())")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    :ivar info: what stands behind the fence, split into words
    """

    info: tuple[str, ...]
    body: str

    def commands(self) -> Iterator[str]:
        language = self.info[0] if self.info else ""
        for line in re.sub(r"\\\n *", "", self.body).splitlines():
            command = line.strip()
            if language == "console":
                command = command.removeprefix("$ ") if command.startswith("$ ") else ""
            elif language != "sh" and not _PROGRAMS.match(command):
                continue
            command = command.partition("  #")[0].strip()
            if command and not command.startswith("#") and not _SHELLS.match(command):
                yield command


def blocks_of(text: str) -> list[Block]:
    return [Block(tuple(m["info"].split()), m["body"]) for m in _FENCE.finditer(text)]


def faults_of(text: str) -> list[str]:
    """Return what of a page breaks the rule."""
    found = []
    for block in blocks_of(text):
        marks = block.info[1:]
        found += [f"unknown mark {mark}" for mark in marks if mark not in NEEDS]
        if not marks:
            found += [command for command in block.commands() if not _is_run(command)]
    return found


def _is_run(command: str) -> bool:
    return any(command.startswith(known) for known in RUN_BY)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_by_a_test_or_says_what_it_needs(page: Path) -> None:
    assert faults_of(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(("command", "shown"), RUN_BY.items())
def test_what_is_said_to_run_a_command_exists(command: str, shown: str) -> None:
    path, _, name = shown.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".py"):
        assert not name or f"def {name}(" in text
    else:
        assert command in text


@pytest.mark.parametrize(
    "page",
    [
        "```sh\nhelm install tendril charts/tendril\n```\n",
        "```\nhelm install tendril charts/tendril\n```\n",
        "```console\n$ helm install \\\n    tendril\nNAME: tendril\n```\n",
        "```sh needs-luck\nmake test\n```\n",
        "```sh\nfor f in *; do\n  frobnicate $f\ndone\n```\n",
    ],
)
def test_what_nobody_runs_is_found(page: str) -> None:
    assert len(faults_of(page)) == 1


@pytest.mark.parametrize(
    "page",
    [
        "```sh needs-cluster\nhelm install tendril charts/tendril\n```\n",
        "```sh\n# a word before\nexport A=b\nmake test T=x  # and one behind\n```\n",
        "```console\n$ tendril doctor\nok  settings\n```\n",
        "```json\n{}\n```\n",
        "   ```\n   tendril run\n   ```\n",
    ],
)
def test_what_somebody_runs_is_not_found(page: str) -> None:
    assert faults_of(page) == []
