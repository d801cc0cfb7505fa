"""What the Dockerfile must not say, and what its page must say of it."""

import re
import subprocess
import tomllib
from pathlib import Path

TOP = Path(__file__).parents[2]
DOCKERFILE = (TOP / "Dockerfile").read_text(encoding="utf-8")
PAGE = (TOP / "docs" / "container.md").read_text(encoding="utf-8")
INSTRUCTIONS = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)


def test_nothing_is_tied_to_one_architecture() -> None:
    assert not re.search(r"amd64|x86|arm64|aarch64|--platform", INSTRUCTIONS)


def test_no_frontend_is_fetched_to_read_it() -> None:
    assert not re.search(r"^# *(?:syntax|escape) *=", DOCKERFILE, re.MULTILINE)


def test_every_build_argument_is_on_the_page() -> None:
    arguments = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))

    assert arguments
    assert {name for name in arguments if f"`{name}`" not in PAGE} == set()


def test_defaults_of_arguments_are_those_on_the_page() -> None:
    for default in re.findall(r"^ARG \w+=(\S*[:/]\S*)", DOCKERFILE, re.MULTILINE):
        assert f"`{default}`" in PAGE


def test_what_is_in_the_wheel_reaches_the_build() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    let_in = (TOP / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert {path for path in wheel if f"!{path}" not in let_in} == set()


def test_without_an_engine_the_build_says_what_it_needs() -> None:
    done = subprocess.run(
        ["make", "image", "DOCKER=no-such-client"],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "make image needs a Docker engine, and none answers" in done.stdout
