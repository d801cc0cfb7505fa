"""How the stand-in for a Kubernetes API server is spoken to: paths, verbs, watches, ``Status``."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.integration import kubernetes_protobuf
from tests.integration.kubernetes_store import Object, Refused, Resource, Selection

if TYPE_CHECKING:
    from tests.integration.kubernetes_server import KubernetesServer

_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|log|scale))?"
)
_WATCH_TICK_S = 0.2  # how soon a watch sees that the server ends


@dataclass(frozen=True)
class Call:
    """One request: its path without the query, and the query."""

    method: str
    path: str
    params: dict[str, str]


class Handler(BaseHTTPRequestHandler):
    """One connection; what it answers stands in the server and its store."""

    protocol_version = "HTTP/1.1"
    kubernetes: "KubernetesServer"

    def do_any(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._answer(body)
        except Refused as exc:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": exc.message,
                "reason": exc.reason,
                "code": exc.code,
            }
            self._say(exc.code, status)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_any

    def _answer(self, body: bytes) -> None:
        server, parts = self.kubernetes, urlsplit(self.path)
        params = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        server.calls.append(Call(self.command, parts.path, params))
        if (refusal := server.refusal_of(self.command, parts.path)) is not None:
            raise refusal
        if parts.path == "/openapi/v2":  # an empty document, in the encoding that clients ask for
            return self._say_bytes(
                200, b"", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
            )
        if self.command == "GET" and (said := server.discovery(parts.path)) is not None:
            return self._say(200, said)
        found = _PATH.fullmatch(parts.path)
        resource = found and self._resource_of(found)
        if not found or not resource:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        namespace, name = found["namespace"] or "", found["name"] or ""
        if found["part"] == "log":
            text = server.pod_logs.get((namespace, name), "")
            return self._say_bytes(200, text.encode(), "text/plain")
        if self.command == "GET":
            return self._read(resource, namespace, name, params)
        return self._write(resource, namespace, name, params, body)

    def _resource_of(self, found: re.Match[str]) -> Resource | None:
        group, version = found["group"] or "", found["version"] or "v1"
        return next(
            (
                r
                for r in self.kubernetes.resources
                if (r.group, r.version, r.plural) == (group, version, found["plural"])
            ),
            None,
        )

    def _read(self, resource: Resource, namespace: str, name: str, params: dict[str, str]) -> None:
        selection = Selection(params.get("labelSelector", ""), params.get("fieldSelector", ""))
        store = self.kubernetes.store
        if name:
            return self._say(200, store.get(resource, namespace, name))
        if params.get("watch") in ("1", "true"):
            return self._watch(resource, namespace, selection, params)
        with store.changed:
            listed = store.list(resource, namespace, selection)
            metadata = {"resourceVersion": str(store.revision)}
        kind = {"apiVersion": resource.api_version, "kind": f"{resource.kind}List"}
        return self._say(200, {**kind, "metadata": metadata, "items": listed})

    def _write(
        self, resource: Resource, namespace: str, name: str, params: dict[str, str], body: bytes
    ) -> None:
        store, dry = self.kubernetes.store, params.get("dryRun") == "All"
        kind = (self.headers.get("Content-Type") or "").partition(";")[0]
        if self.command == "DELETE":  # its options say nothing that this server knows of
            return self._say(200, store.delete(resource, namespace, name, dry))
        sent = _decoded(kind, body)
        if self.command == "POST":
            self._say(201, store.create(resource, namespace, sent, dry))
        elif self.command == "PUT":
            self._say(200, store.replace(resource, namespace, name, sent, dry))
        elif kind == "application/apply-patch+yaml":
            manager = params.get("fieldManager", "")
            self._say(200, store.apply(resource, namespace, name, sent, manager, dry))
        elif kind in ("application/merge-patch+json", "application/strategic-merge-patch+json"):
            strategic = "strategic" in kind
            self._say(
                200, store.merge(resource, namespace, name, sent, strategic=strategic, dry=dry)
            )
        else:
            raise Refused(415, "UnsupportedMediaType", f"{self.command} with {kind}")
        return None

    def _watch(
        self, resource: Resource, namespace: str, selection: Selection, params: dict[str, str]
    ) -> None:
        """Send changes as they happen, until the client's time-out or the end of the server."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        deadline = time.monotonic() + float(params.get("timeoutSeconds", 3600))
        try:
            for event in self._changes(resource, namespace, selection, params, deadline):
                self.wfile.write(json.dumps(event).encode() + b"\n")
                self.wfile.flush()
        except OSError:
            return  # nobody watches any more

    def _changes(
        self, resource: Resource, namespace: str, selection: Selection,
        params: dict[str, str], deadline: float,
    ) -> Iterator[Object]:  # fmt: skip
        store = self.kubernetes.store
        seen = int(params.get("resourceVersion") or 0)
        if not seen or params.get("sendInitialEvents") == "true":
            with store.changed:
                seen, present = store.revision, store.list(resource, namespace, selection)
            yield from ({"type": "ADDED", "object": obj} for obj in present)
            if params.get("sendInitialEvents") == "true":
                yield _end_of_initial_events(resource, seen)
        while time.monotonic() < deadline and not self.kubernetes.is_over:
            with store.changed:
                if store.revision == seen:
                    store.changed.wait(_WATCH_TICK_S)
                fresh = [entry for entry in store.history if entry[0] > seen]
                seen = store.revision
            for _, change, kind, obj in fresh:
                place = obj["metadata"].get("namespace", "")
                if kind == resource and namespace in ("", place) and selection.has(obj):
                    yield {"type": change, "object": obj}

    def _say(self, code: int, obj: Object) -> None:
        self._say_bytes(code, json.dumps(obj).encode(), "application/json")

    def _say_bytes(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _decoded(kind: str, body: bytes) -> Object:
    if kind == kubernetes_protobuf.MEDIA_TYPE:
        return kubernetes_protobuf.decode(body)
    decoded: Object = yaml.safe_load(body) if "yaml" in kind else json.loads(body)
    return decoded


def _end_of_initial_events(resource: Resource, revision: int) -> Object:
    metadata = {
        "resourceVersion": str(revision),
        "annotations": {"k8s.io/initial-events-end": "true"},
    }
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    return {"type": "BOOKMARK", "object": {**kind, "metadata": metadata}}
