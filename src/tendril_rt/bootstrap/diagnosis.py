"""Why an agent does not come up: its pods, their events and last words, and doctor's findings.

Looks only, but for one pod that runs ``tendril doctor`` as the agent would run, and is removed.
"""

from collections.abc import Iterator
from typing import Any

import anyio

from tendril_rt.bootstrap.chart import RELEASE
from tendril_rt.bootstrap.kubernetes import Kubernetes, Object
from tendril_rt.errors import KubernetesError

_AGENTS = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=agent"
_DOCTOR = f"{RELEASE}-bootstrap-doctor"
_DOCTOR_S = 90.0
_POLL_S = 0.5
_LOG_LINES = 20
_EVENTS = 12
_QUESTION_S = 30.0
_OVER = ("Succeeded", "Failed")  # phases of a pod


async def in_short(kubernetes: Kubernetes, namespace: str) -> str:
    """Return in a few words how the agent's pods are."""
    pods = await _pods(kubernetes, namespace)
    return "; ".join(line for pod in pods for line in _states(pod)) or "there is no pod yet"


async def in_full(kubernetes: Kubernetes, namespace: str) -> str:
    """Return all there is to say, a section each; what cannot be asked says so in its place."""
    sections = (
        ("pods", _describe_pods),
        ("events", _describe_events),
        ("last lines of the agent", _describe_logs),
        ("doctor, in a pod like the agent's", _ask_doctor),
    )
    said: list[str] = []
    for title, describe in sections:
        try:
            with anyio.fail_after(_QUESTION_S + _DOCTOR_S):
                text = await describe(kubernetes, namespace)
        except (KubernetesError, TimeoutError) as exc:
            text = f"cannot be asked: {exc}"
        indented = "\n".join(f"  {line}" for line in text.splitlines())
        said.append(f"{title}:\n{indented}")
    return "\n".join(said)


async def _pods(kubernetes: Kubernetes, namespace: str) -> list[Object]:
    return await kubernetes.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=_AGENTS)


async def _describe_pods(kubernetes: Kubernetes, namespace: str) -> str:
    pods = await _pods(kubernetes, namespace)
    lines = [line for pod in pods for line in _states(pod)]
    return "\n".join(lines) or (
        "none: the Deployment's events, below, may say why; a quota or an admission policy of the "
        "cluster, as a rule"
    )


async def _describe_events(kubernetes: Kubernetes, namespace: str) -> str:
    events = await kubernetes.items(f"/api/v1/namespaces/{namespace}/events")
    lines = [
        f"{event.get('type')} {event['involvedObject'].get('name')}: "
        f"{event.get('reason')}: {' '.join(str(event.get('message')).split())}"
        for event in sorted(events, key=_when)[-_EVENTS:]
    ]
    return "\n".join(lines) or "none"


async def _describe_logs(kubernetes: Kubernetes, namespace: str) -> str:
    lines: list[str] = []
    for pod in await _pods(kubernetes, namespace):
        name = pod["metadata"]["name"]
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
        try:
            text = await kubernetes.text(path, tailLines=str(_LOG_LINES))
        except KubernetesError as exc:  # it has not begun
            text = str(exc)
        lines += text.splitlines()[-_LOG_LINES:]
    return "\n".join(lines) or "none"


async def _ask_doctor(kubernetes: Kubernetes, namespace: str) -> str:
    workload = await _workload(kubernetes, namespace)
    if workload is None:
        return "cannot be asked: there is no workload to make its pod after"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await kubernetes.remove(f"{pods}/{_DOCTOR}")
    await kubernetes.create(pods, _doctor_of(workload, namespace))
    try:
        with anyio.move_on_after(_DOCTOR_S):
            while True:
                pod = await kubernetes.find(f"{pods}/{_DOCTOR}")
                if pod is not None and (pod.get("status") or {}).get("phase") in _OVER:
                    return await kubernetes.text(f"{pods}/{_DOCTOR}/log")
                await anyio.sleep(_POLL_S)
        return "its pod does not come to its end either: look at the events above"
    finally:
        with anyio.move_on_after(_QUESTION_S, shield=True):
            await kubernetes.remove(f"{pods}/{_DOCTOR}")


async def _workload(kubernetes: Kubernetes, namespace: str) -> Object | None:
    """Return what the chart has made: a Deployment, or with claims a StatefulSet."""
    for kind in ("deployments", "statefulsets"):
        path = f"/apis/apps/v1/namespaces/{namespace}/{kind}/{RELEASE}"
        if (found := await kubernetes.find(path)) is not None:
            return found
    return None


def _doctor_of(workload: Object, namespace: str) -> Object:
    template = workload["spec"]["template"]
    [container] = template["spec"]["containers"]
    probes = ("livenessProbe", "readinessProbe", "startupProbe", "ports")
    kept = {name: value for name, value in container.items() if name not in probes}
    volumes = list(template["spec"].get("volumes") or [])
    if not any(volume["name"] == "state" for volume in volumes):  # a claim of the StatefulSet's
        volumes.append({"name": "state", "emptyDir": {}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": _DOCTOR,
            "namespace": namespace,
            # The agent's but for the component: the same policies hold, no workload owns it.
            "labels": {
                **template["metadata"]["labels"],
                "app.kubernetes.io/component": "doctor",
            },
        },
        "spec": {
            **template["spec"],
            "volumes": volumes,
            "restartPolicy": "Never",
            "containers": [{**kept, "name": "doctor", "args": ["doctor"]}],
        },
    }


def _states(pod: Object) -> Iterator[str]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    containers: list[dict[str, Any]] = status.get("containerStatuses") or []
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield f"{name}: not scheduled: {condition.get('message')}"
    for container in containers:
        for kind, state in (container.get("state") or {}).items():
            reason, message = state.get("reason"), state.get("message")
            what = ": ".join(text for text in (kind, reason, message) if text)
            code = f", exit code {state['exitCode']}" if "exitCode" in state else ""
            yield f"{name}: {what}{code}, {container.get('restartCount', 0)} restarts"
    if not containers:
        yield f"{name}: {status.get('phase', 'Pending')}"


def _when(event: Object) -> str:
    times = (event.get("lastTimestamp"), event.get("eventTime"), event.get("firstTimestamp"))
    return next((str(time) for time in times if time), "")
