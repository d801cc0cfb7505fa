"""The git and terraform commands of an agent's run, noted once and run again by hand.

Programs of the same names stand before the real ones on the noting agent's PATH; they write down
what they were started with, and what the agent had put beside Terraform's files by then. By hand
the same commands run in another folder, one after the other, with nothing in between.
"""

import os
import shlex
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.runner.mirror import Mirror

_NOTER = """#!/bin/sh
call=$(mktemp -d {calls}/"$(date +%s%N)"-XXXXXX)
pwd >"$call/folder"
env -0 >"$call/environment"
printf '%s\\0' "$@" >"$call/arguments"
mkdir "$call/inputs"
cp ./*.json "$call/inputs" 2>/dev/null
exec {program} "$@"
"""


@dataclass(frozen=True)
class Command:
    """One command as the agent ran it.

    :ivar inputs: what the agent had written into its folder, by name
    """

    arguments: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    inputs: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return for example ``terraform init``."""
        words = (
            word for word in self.arguments[1:] if not word.startswith("-") and "=" not in word
        )
        return f"{Path(self.arguments[0]).name} {next(words)}"

    def moved(self, old: Path, new: Path) -> "Command":
        """Return the same command for another folder."""

        def move(text: str) -> str:
            return text.replace(str(old), str(new))

        return Command(
            tuple(move(word) for word in self.arguments),
            move(self.folder),
            {name: move(value) for name, value in self.environment.items()},
            {name: move(text) for name, text in self.inputs.items()},
        )


class Noter:
    """Notes what an agent runs.

    :ivar settings: for the agent's environment
    """

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls"
        self._calls.mkdir(parents=True)
        self._real: dict[str, str] = {}
        for name in ("git", "terraform"):
            real = shutil.which(name)
            if real is None:
                raise SystemExit(f"{name} is not on the PATH")
            self._real[name] = real
            script = folder / name
            text = _NOTER.format(calls=shlex.quote(str(self._calls)), program=shlex.quote(real))
            script.write_text(text)
            script.chmod(0o700)
        path = f"{folder}:{os.environ['PATH']}"
        self.settings = {"TENDRIL_TERRAFORM": str(folder / "terraform"), "PATH": path}

    def forget(self) -> None:
        """Begin anew."""
        shutil.rmtree(self._calls)
        self._calls.mkdir()

    def noted(self) -> Sequence[Command]:
        """Return what was run since the last :meth:`forget`, in order."""
        return [self._read(call) for call in sorted(self._calls.iterdir())]

    def _read(self, call: Path) -> Command:
        arguments = (call / "arguments").read_text().split("\0")[:-1]
        pairs = (pair.partition("=") for pair in (call / "environment").read_text().split("\0"))
        environment = {name: value for name, _, value in pairs if name}
        environment["PATH"] = os.environ["PATH"]
        is_git = any(word.startswith("core.") for word in arguments)
        return Command(
            (self._real["git" if is_git else "terraform"], *arguments),
            (call / "folder").read_text().rstrip("\n"),
            environment,
            {path.name: path.read_text() for path in (call / "inputs").iterdir()},
        )


def by_hand(commands: Sequence[Command], old: Path, new: Path) -> Mapping[str, float]:
    """Run *commands* of an agent in *old* in the folder *new*; return seconds by name.

    A name that comes again adds to its seconds. Only the commands are timed, not the files that
    the agent wrote for them.
    """
    took: dict[str, float] = defaultdict(float)
    shutil.rmtree(new / "workspaces", ignore_errors=True)
    shutil.rmtree(new / "state" / "tfstate", ignore_errors=True)
    for command in (noted.moved(old, new) for noted in commands):
        _prepare(command)
        started_at = time.perf_counter()
        subprocess.run(
            command.arguments,
            cwd=command.folder,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        took[command.name] += time.perf_counter() - started_at
    return took


def _prepare(command: Command) -> None:
    """Make the folders and files that the command finds in an agent's run."""
    for folder in _folders(command):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in command.inputs.items():
        Path(command.folder, name).write_text(text)
    if "backend" in command.inputs.get("tendril_override.tf.json", ""):
        state = command.inputs["tendril_override.tf.json"].split('"path": "')[1].split('"')[0]
        Path(state).parent.mkdir(parents=True, exist_ok=True)
    repository = Path(command.environment.get("GIT_DIR", ""))
    if "fetch" in command.arguments:
        Mirror(repository, repository.with_suffix(".lock")).prepare("0" * 40)


def _folders(command: Command) -> Iterator[str]:
    yield command.folder
    if "GIT_WORK_TREE" in command.environment:
        yield command.environment["GIT_WORK_TREE"]
