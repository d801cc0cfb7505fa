"""What a cluster's controllers and nodes do: they run what the chart asked for.

Watches the stand-in for an API server. A Deployment's pod template becomes a ``tendril`` process of
this machine, with the variables that the template names, its Secret's among them; only folders and
ports are this machine's own. A changed template replaces the process, as a rollout does.
"""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

from tests.conftest import TENDRIL
from tests.integration.kubernetes_server import KubernetesServer
from tests.integration.kubernetes_store import Object, Refused

_POLL_S = 0.2
_INHERITED = ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV", "LANG")


@dataclass
class Kubelet:
    """See the module.

    :ivar breaks: variables that the agents get instead, to make them fail
    :ivar started: how many agents were started so far
    """

    server: KubernetesServer
    folder: Path
    breaks: dict[str, str] = field(default_factory=dict)
    started: int = 0
    _agents: dict[str, tuple[str, subprocess.Popen[bytes]]] = field(default_factory=dict)
    _is_over: bool = False
    _restart: bool = False

    def run(self) -> None:
        """Reconcile until told to stop."""
        while not self._is_over:
            self._reconcile()
            with self.server.store.changed:
                self.server.store.changed.wait(_POLL_S)

    def stop(self) -> None:
        """Stop reconciling."""
        self._is_over = True

    def restart(self) -> None:
        """Start every agent anew at the next look, as after a back-off."""
        self._restart = True

    def end_agents(self) -> None:
        """End every agent and wait for it."""
        for _, process in self._agents.values():
            _end(process)
        self._agents.clear()

    def _reconcile(self) -> None:
        if self._restart:
            self._restart = False
            self.end_agents()
        wanted = {f"{self._place(d)}": d for d in self.server.objects("Deployment")}
        for place in set(self._agents) - set(wanted):
            _, process = self._agents.pop(place)
            _end(process)
        for place, deployment in wanted.items():
            self._reconcile_one(place, deployment)
        for pod in self.server.objects("Pod"):
            if pod["spec"].get("restartPolicy") == "Never" and not pod.get("status"):
                self._run_once(pod)

    def _reconcile_one(self, place: str, deployment: Object) -> None:
        template = deployment["spec"]["template"]
        revision = json.dumps(template, sort_keys=True)
        present = self._agents.get(place)
        if present is not None and present[0] == revision:
            self._report(deployment, present[1])
            return
        try:
            env = self._environment(template, deployment["metadata"]["namespace"])
        except Refused:
            return  # its Secret is not there: as a kubelet, look again
        if present is not None:
            _end(present[1])
        with (self.folder / "agent.log").open("ab") as log:
            process = subprocess.Popen([*TENDRIL, "run"], env=env, stdout=log, stderr=log)
        self.started += 1
        self._agents[place] = (revision, process)
        self._report(deployment, process)

    def _report(self, deployment: Object, process: "subprocess.Popen[bytes]") -> None:
        namespace, name = deployment["metadata"]["namespace"], f"{deployment['metadata']['name']}-0"
        code = process.poll()
        state: Object = {"running": {}}
        if code is not None:
            state = {"terminated": {"reason": "Error", "exitCode": code}}
        status = {"phase": "Running", "containerStatuses": [{"restartCount": 0, "state": state}]}
        self.server.pod_logs[(namespace, name)] = (self.folder / "agent.log").read_text()
        found = [p for p in self.server.objects("Pod", namespace) if p["metadata"]["name"] == name]
        if found and found[0].get("status") == status:
            return
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        spec = deployment["spec"]["template"]["spec"]
        self.server.put({"kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
        if code is not None:
            self._event(namespace, name, "BackOff", "Back-off restarting failed container tendril")

    def _event(self, namespace: str, name: str, reason: str, message: str) -> None:
        self.server.put(
            {
                "kind": "Event",
                "metadata": {"name": f"{name}.{reason.lower()}", "namespace": namespace},
                "involvedObject": {"kind": "Pod", "name": name},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": "2026-01-01T00:00:00Z",
            }
        )

    def _run_once(self, pod: Object) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        done = subprocess.run(
            [*TENDRIL, *container["args"]],
            env=self._environment({"spec": pod["spec"]}, namespace),
            capture_output=True,
            text=True,
            check=False,
        )
        self.server.pod_logs[(namespace, name)] = done.stdout + done.stderr
        phase = "Succeeded" if done.returncode == 0 else "Failed"
        self.server.set_status("Pod", namespace, name, {"phase": phase})

    def _environment(self, template: Object, namespace: str) -> dict[str, str]:
        [container] = template["spec"]["containers"]
        given = {entry["name"]: self._value(entry, namespace) for entry in container["env"]}
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            **given,
            "TENDRIL_STATE_DIR": str(self.folder / "state"),
            "TENDRIL_WORKSPACE_DIR": str(self.folder / "workspaces"),
            "TENDRIL_HEALTH_HOST": "127.0.0.1",
            "TENDRIL_HEALTH_PORT": "0",
            **self.breaks,
        }

    def _value(self, entry: Object, namespace: str) -> str:
        if "value" in entry:
            return str(entry["value"])
        source = entry["valueFrom"]["secretKeyRef"]
        data = self.server.object("Secret", namespace, source["name"])["data"]
        return base64.b64decode(data[source["key"]]).decode()

    def _place(self, obj: Object) -> str:
        return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
    process.wait(20)


@contextmanager
def kubelet(server: KubernetesServer, folder: Path) -> Iterator[Kubelet]:
    """Run what is asked of *server* until the block ends."""
    folder.mkdir(exist_ok=True)
    node = Kubelet(server, folder)
    thread = Thread(target=node.run)
    thread.start()
    try:
        yield node
    finally:
        node.stop()
        thread.join()
        node.end_agents()
