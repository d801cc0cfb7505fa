"""``grape bootstrap`` as users run it: a process, with a cloud, a cluster, a control plane."""

import json
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.integration.grape_support import GRAPE, Grape
from tests.integration.kubernetes_server import KubernetesServer

from .cloud import Cloud, Json

REGION = "eu-north-1"

Process: TypeAlias = "subprocess.Popen[str]"


@dataclass(frozen=True)
class Ran:
    """How it ended."""

    code: int
    out: str
    err: str


@dataclass
class Bootstrap:
    """One environment to bootstrap.

    :ivar folder: what grape keeps is in ``data`` there
    :ivar argvs: every argument list that was seen of any process of this machine meanwhile
    """

    grape: Grape
    cloud: Cloud
    server: KubernetesServer
    folder: Path
    project: str
    extra: dict[str, str] = field(default_factory=dict)
    argvs: set[bytes] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.project}-test"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in self.grape.environment.items() if not k.startswith("AWS_")}
        return {**clean, **self.cloud.environment, **self.extra}

    def arguments(self, *more: str) -> list[str]:
        if not self.kubeconfig.exists():
            self.server.write_kubeconfig(self.kubeconfig)
        return [
            *GRAPE,
            *("bootstrap", self.project, "--environment", "test", "--region", REGION),
            *("--data", str(self.data), "--kubeconfig", str(self.kubeconfig), *more),
        ]

    def start(self, *more: str) -> "subprocess.Popen[str]":
        """Start it as a process."""
        return subprocess.Popen(
            self.arguments(*more),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *more: str) -> Ran:
        """Run it to its end, agreeing to everything, and note every argv of the machine."""
        process = self.start("--yes", *more)
        over = threading.Event()
        watcher = threading.Thread(target=self._watch, args=[over])
        watcher.start()
        try:
            out, err = process.communicate(timeout=400)
        finally:
            over.set()
            watcher.join()
        return Ran(process.returncode, out, err)

    def kill(self, process: "subprocess.Popen[str]") -> None:
        """Kill grape alone, as the kernel does it, and close what was read of it."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def journal(self) -> list[Json]:
        lines = (self.data / "journal.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def fact(self, name: str) -> str:
        found = [line["facts"][name] for line in self.journal() if name in line.get("facts", {})]
        return str(found[-1])

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.argvs.add(path.read_bytes())
                except OSError:  # it has ended
                    continue
