"""What a Kubernetes API server keeps: objects by kind, namespace and name, revisions, watches.

As far as Helm, kubectl and an installer need it: create, get, list with selectors, replace, the
three kinds of patches, delete, watch. There are no controllers: nothing becomes ready, and no pod
appears, unless a test says so. Nothing is validated against a schema, no default is filled in,
and server-side apply knows no conflicts: who applies a field last has it.
"""

import base64
import copy
import datetime
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

Object = dict[str, Any]  # the shapes are Kubernetes' own; nothing of ours is in it


@dataclass(frozen=True)
class Resource:
    """One kind of object, as discovery tells of it."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = (
    Resource("", "v1", "Namespace", "namespaces", namespaced=False, short_names=("ns",)),
    Resource("", "v1", "Node", "nodes", namespaced=False),
    Resource("", "v1", "ConfigMap", "configmaps", short_names=("cm",)),
    Resource("", "v1", "Event", "events", short_names=("ev",)),
    Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", short_names=("pvc",)),
    Resource("", "v1", "Pod", "pods", short_names=("po",)),
    Resource("", "v1", "Secret", "secrets"),
    Resource("", "v1", "Service", "services", short_names=("svc",)),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",)),
    Resource("apps", "v1", "Deployment", "deployments", short_names=("deploy",)),
    Resource("apps", "v1", "ReplicaSet", "replicasets", short_names=("rs",)),
    Resource("apps", "v1", "StatefulSet", "statefulsets", short_names=("sts",)),
    Resource("batch", "v1", "Job", "jobs"),
    Resource(
        "networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", short_names=("netpol",)
    ),
    Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short_names=("pdb",)),
    Resource("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
)
#: Custom resources that a test adds where it wants their operators to seem installed.
SERVICE_MONITOR = Resource("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors")
SCALED_OBJECT = Resource("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects")
TRIGGER_AUTHENTICATION = Resource(
    "keda.sh", "v1alpha1", "TriggerAuthentication", "triggerauthentications"
)

#: By which field a strategic merge patch finds an item of a list; other lists are replaced.
_MERGE_KEYS = {
    **dict.fromkeys(("containers", "initContainers", "env", "volumes", "imagePullSecrets"), "name"),
    **{"volumeMounts": "mountPath", "ports": "port", "topologySpreadConstraints": "topologyKey"},
}
_TERM = re.compile(
    r"\s*([^\s=!,()]+)\s*(?:(==|=|!=)\s*([^,\s]*)|(in|notin)\s*\(([^)]*)\))?\s*(?:,|$)"
)


class Refused(Exception):
    """What the API server says no to, as its ``Status`` has it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass(frozen=True)
class Selection:
    """Which objects a list or watch is about; empty texts select all.

    :ivar labels: such as ``owner=helm,status in (deployed,failed)``
    :ivar fields: such as ``metadata.name=x``
    """

    labels: str = ""
    fields: str = ""

    def has(self, obj: Object) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(
            _holds(labels.get(name), operator, values)
            for name, operator, values in _terms(self.labels)
        ) and all(
            _holds(_field(obj, path), operator, values)
            for path, operator, values in _terms(self.fields)
        )


@dataclass
class Store:
    """All objects. Every method may be called from any thread, and takes and gives copies.

    :ivar changed: notified at each change
    :ivar history: every change so far, for watches: revision, kind of change, resource, object
    """

    changed: Condition = field(default_factory=Condition)
    history: list[tuple[int, str, Resource, Object]] = field(default_factory=list)
    _objects: dict[tuple[Resource, str, str], Object] = field(default_factory=dict)
    _applied: dict[tuple[Resource, str, str, str], Object] = field(default_factory=dict)
    _revision: int = 0

    @property
    def revision(self) -> int:
        return self._revision

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """:raises Refused: there is none"""
        with self.changed:
            if (found := self._objects.get((resource, namespace, name))) is None:
                raise Refused(404, "NotFound", f'{resource.plural} "{name}" not found')
            return copy.deepcopy(found)

    def list(
        self, resource: Resource, namespace: str = "", selection: Selection = Selection()
    ) -> list[Object]:
        """Return them by namespace and name; no namespace means all of them."""
        with self.changed:
            return [
                copy.deepcopy(obj)
                for (kind, place, _), obj in sorted(
                    self._objects.items(), key=lambda item: item[0][1:]
                )
                if kind == resource and namespace in ("", place) and selection.has(obj)
            ]

    def create(self, resource: Resource, namespace: str, obj: Object, dry: bool = False) -> Object:
        """:raises Refused: there is one of that name, or no such namespace"""
        made = copy.deepcopy(obj)
        metadata = made.setdefault("metadata", {})
        if "name" not in metadata and "generateName" in metadata:
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        name = metadata["name"]
        with self.changed:
            if (resource, namespace, name) in self._objects:
                raise Refused(409, "AlreadyExists", f'{resource.plural} "{name}" already exists')
            if resource.namespaced and not self._has_namespace(namespace):
                raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now, generation=1)
            if resource.namespaced:
                metadata["namespace"] = namespace
            return self._store(resource, namespace, name, made, "ADDED", dry)

    def replace(
        self, resource: Resource, namespace: str, name: str, obj: Object, dry: bool = False
    ) -> Object:
        """:raises Refused: there is none, or it has changed since *obj* was read"""
        with self.changed:
            old = self.get(resource, namespace, name)
            wanted = obj.get("metadata", {}).get("resourceVersion")
            if wanted and wanted != old["metadata"]["resourceVersion"]:
                raise Refused(
                    409, "Conflict", f'{resource.plural} "{name}": the object has been modified'
                )
            new = copy.deepcopy(obj)
            new["metadata"] = {**old["metadata"], **new.get("metadata", {})}
            return self._store(resource, namespace, name, new, "MODIFIED", dry)

    def merge(
        self, resource: Resource, namespace: str, name: str, patch: Object, *,
        strategic: bool = False, dry: bool = False,
    ) -> Object:  # fmt: skip
        """Apply a merge patch, or a strategic one.

        :raises Refused: there is none of that name
        """
        with self.changed:
            old = self.get(resource, namespace, name)
            new = merged(old, patch, _MERGE_KEYS if strategic else {})
            return self._store(resource, namespace, name, new, "MODIFIED", dry)

    def apply(
        self, resource: Resource, namespace: str, name: str, wanted: Object, manager: str,
        dry: bool = False,
    ) -> Object:  # fmt: skip
        """Apply on the server's side: what *manager* applied before and leaves out now is removed.

        :raises Refused: there is no such namespace
        """
        key = (resource, namespace, name, manager)
        with self.changed:
            if (resource, namespace, name) not in self._objects:
                made = self.create(resource, namespace, wanted, dry)
            else:
                old = self.get(resource, namespace, name)
                new = merged(_without(old, self._applied.get(key, {}), wanted), wanted, {})
                made = self._store(resource, namespace, name, new, "MODIFIED", dry)
            if not dry:
                self._applied[key] = copy.deepcopy(wanted)
            return made

    def delete(self, resource: Resource, namespace: str, name: str, dry: bool = False) -> Object:
        """:raises Refused: there is none"""
        with self.changed:
            old = self.get(resource, namespace, name)
            if not dry:
                del self._objects[resource, namespace, name]
                for key in [key for key in self._applied if key[:3] == (resource, namespace, name)]:
                    del self._applied[key]
                self._record("DELETED", resource, old)
            return old

    def _has_namespace(self, name: str) -> bool:
        return any(kind.kind == "Namespace" and n == name for kind, _, n in self._objects)

    def _store(
        self, resource: Resource, namespace: str, name: str, obj: Object, change: str, dry: bool
    ) -> Object:
        obj.update(apiVersion=resource.api_version, kind=resource.kind)
        for text_name, text in (obj.pop("stringData", None) or {}).items():
            encoded = base64.b64encode(text.encode()).decode()
            obj.setdefault("data", {})[text_name] = encoded
        old = self._objects.get((resource, namespace, name))
        if old is not None and old.get("spec") != obj.get("spec"):
            obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if not dry:
            self._objects[resource, namespace, name] = obj
            self._record(change, resource, obj)
        return copy.deepcopy(obj)

    def _record(self, change: str, resource: Resource, obj: Object) -> None:
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        self.history.append((self._revision, change, resource, copy.deepcopy(obj)))
        self.changed.notify_all()


def merged(old: Any, patch: Any, keys: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON
    """Return *old* after a merge patch; *keys*: by which field items of which lists are found."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if name == "$patch" or name.startswith(("$setElementOrder/", "$retainKeys")):
            continue
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list) and name in keys and isinstance(result.get(name), list):
            result[name] = _merged_list(result[name], value, keys[name], keys)
        else:
            result[name] = merged(result.get(name), value, keys)
    return result


def _merged_list(
    old: list[Object], patch: list[Object], key: str, keys: Mapping[str, str]
) -> list[Object]:
    result = {item[key]: item for item in old}
    for item in patch:
        if item.get("$patch") == "delete":
            result.pop(item[key], None)
        else:
            result[item[key]] = merged(result.get(item[key]), item, keys)
    return list(result.values())


def _without(obj: Object, before: Object, now: Object) -> Object:
    """Return *obj* without the fields that stand in *before* and not in *now*."""
    result: Object = {}
    for name, value in obj.items():
        if name in before and name not in now:
            continue
        earlier, later = before.get(name), now.get(name)
        if isinstance(value, dict) and isinstance(earlier, dict) and isinstance(later, dict):
            value = _without(value, earlier, later)
        result[name] = value
    return result


def _terms(selector: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for name, equals, value, within, values in _TERM.findall(selector):
        if within:
            yield name, within, tuple(text.strip() for text in values.split(","))
        else:
            yield name, equals, (value,)


def _holds(found: str | None, operator: str, values: tuple[str, ...]) -> bool:
    if not operator:
        return found is not None
    return (found in values) is (operator not in ("!=", "notin"))


def _field(obj: Object, path: str) -> str | None:
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else str(value)
