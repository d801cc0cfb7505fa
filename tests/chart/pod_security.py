"""The Pod Security Standard "restricted", as far as a pod's spec can break it.

Source: kubernetes.io/docs/concepts/security/pod-security-standards
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
_HOST = ("hostNetwork", "hostPID", "hostIPC")


def faults(spec: dict[str, Any]) -> list[str]:
    """Return what breaks the standard; beside it, a root that can be written to."""
    return [*_pod_faults(spec), *(f for c in _containers(spec) for f in _container_faults(c, spec))]


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def _pod_faults(spec: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in _HOST if spec.get(name))
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']}"
    if spec.get("securityContext", {}).get("sysctls"):
        yield "sysctls"


def _container_faults(container: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    pod, own = spec.get("securityContext", {}), container.get("securityContext", {})
    both = {**pod, **own}
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp profile"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield "keeps capabilities"
    if not set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if own.get("privileged"):
        yield "privileged"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "a port of the host"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root"
