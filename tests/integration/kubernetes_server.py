"""A Kubernetes API server, as far as Helm, kubectl and an installer need one; real HTTPS.

::

    with kubernetes_server(tmp_path) as server:
        kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig")
        …                                           # helm, kubectl, the code under test
        server.object("Secret", "tendril", "tendril-agent")      # what it stored
        server.put(pod)                             # what a controller would make
        server.set_status("Deployment", "tendril", "x", {"readyReplicas": 1})
        server.wait_for("Deployment", "tendril", "x", timeout_s=10)
        server.refuse("PATCH", r"/deployments/", 403, "Forbidden", "exceeded quota")

Always TLS, with a certificate of its own in the kubeconfig: Go clients send no token without it.
What it keeps and what it lacks: :mod:`tests.integration.kubernetes_store`.
"""

import base64
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import yaml

from tests.integration.kubernetes_http import Call, Handler
from tests.integration.kubernetes_store import (
    RESOURCES,
    Object,
    Refused,
    Resource,
    Selection,
    Store,
)

_TOKEN = "the-bearer-token-of-the-tests"


@dataclass
class Refusal:
    """Requests that are answered with an error, *times* times; None: until it is removed."""

    method: str
    path: re.Pattern[str]
    error: Refused
    times: int | None = None


@dataclass
class KubernetesServer:
    """The server as a test sees it.

    :ivar token: the bearer token that it wants
    :ivar calls: every request so far that carried the token
    :ivar pod_logs: what ``…/pods/<name>/log`` answers, by namespace and name
    :ivar resources: the kinds it knows; a test may add custom ones
    :ivar version: what it says of itself
    """

    url: str = ""
    token: str = _TOKEN
    certificate: bytes = b""
    store: Store = field(default_factory=Store)
    calls: list[Call] = field(default_factory=list)
    pod_logs: dict[tuple[str, str], str] = field(default_factory=dict)
    resources: list[Resource] = field(default_factory=lambda: list(RESOURCES))
    version: str = "1.33.0"
    is_over: bool = False
    _refusals: list[Refusal] = field(default_factory=list)

    def write_kubeconfig(self, path: Path, *, token: str | None = None) -> Path:
        """Write a kubeconfig (mode 0600) with one context, ``test``; *token*: another than ours."""
        cluster = {
            "server": self.url,
            "certificate-authority-data": base64.b64encode(self.certificate).decode(),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return path

    def resource(self, kind: str) -> Resource:
        return next(resource for resource in self.resources if resource.kind == kind)

    def object(self, kind: str, namespace: str, name: str) -> Object:
        """:raises Refused: there is none"""
        return self.store.get(self.resource(kind), namespace, name)

    def objects(self, kind: str, namespace: str = "", labels: str = "") -> list[Object]:
        """Return those of *kind*; no namespace means all of them."""
        return self.store.list(self.resource(kind), namespace, Selection(labels))

    def put(self, obj: Object) -> Object:
        """Create or replace an object, as a controller would."""
        resource, metadata = self.resource(obj["kind"]), obj["metadata"]
        namespace = metadata.get("namespace", "default") if resource.namespaced else ""
        if any(
            found["metadata"]["name"] == metadata.get("name")
            for found in self.store.list(resource, namespace)
        ):
            return self.store.replace(resource, namespace, metadata["name"], obj)
        return self.store.create(resource, namespace, obj)

    def set_status(self, kind: str, namespace: str, name: str, status: Object) -> None:
        """Merge *status* into that of an object, as its controller would.

        :raises Refused: there is none
        """
        self.store.merge(self.resource(kind), namespace, name, {"status": status})

    def wait_for(self, kind: str, namespace: str, name: str, *, timeout_s: float) -> Object:
        """Return the object as soon as it is there.

        :raises TimeoutError: it never was
        """
        deadline = time.monotonic() + timeout_s
        with self.store.changed:
            while True:
                try:
                    return self.object(kind, namespace, name)
                except Refused as exc:
                    if not self.store.changed.wait(deadline - time.monotonic()):
                        raise TimeoutError(f"no {kind} {namespace}/{name}") from exc

    def refuse(
        self, method: str, path: str, code: int, reason: str, message: str, times: int | None = None
    ) -> Refusal:
        """Answer requests whose path holds the pattern *path* with an error, as many times."""
        refusal = Refusal(method, re.compile(path), Refused(code, reason, message), times)
        self._refusals.append(refusal)
        return refusal

    def allow(self, refusal: Refusal) -> None:
        """Take a refusal back."""
        self._refusals.remove(refusal)

    def refusal_of(self, method: str, path: str) -> Refused | None:
        """Return the error that a request gets, and count it."""
        for refusal in self._refusals:
            if refusal.method == method and refusal.path.search(path) and refusal.times != 0:
                if refusal.times is not None:
                    refusal.times -= 1
                return refusal.error
        return None

    def discovery(self, path: str) -> Object | None:
        """Return what a client is told that asks what there is; None: it asks something else."""
        if path == "/version":
            major, minor, _ = self.version.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{self.version}"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = sorted({r.group for r in self.resources if r.group})
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [self._group(group) for group in groups],
            }
        if path == "/openapi/v3":
            return {"paths": {}}
        version = path.removeprefix("/api/").removeprefix("/apis/")
        if found := [r for r in self.resources if r.api_version == version]:
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": version,
                "resources": [_described(resource) for resource in found],
            }
        return None

    def _group(self, name: str) -> Object:
        version = next(r for r in self.resources if r.group == name).version
        entry = {"groupVersion": f"{name}/{version}", "version": version}
        return {"name": name, "versions": [entry], "preferredVersion": entry}


def _described(resource: Resource) -> Object:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "kind": resource.kind,
        "shortNames": list(resource.short_names),
        "namespaced": resource.namespaced,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    }


@contextmanager
def kubernetes_server(folder: Path) -> Iterator[KubernetesServer]:
    """Serve on a free port of this machine until the block ends; its key is made in *folder*."""
    context, certificate = _certificate(folder)
    kubernetes = KubernetesServer(certificate=certificate)
    for name in ("default", "kube-system"):
        kubernetes.put({"kind": "Namespace", "metadata": {"name": name}})
    handler = type("HandlerOfOne", (Handler,), {"kubernetes": kubernetes})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True  # clients keep connections open that they do not use any more
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    kubernetes.url = f"https://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kubernetes
    finally:
        kubernetes.is_over = True
        server.shutdown()
        thread.join()
        server.server_close()


def _certificate(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """Make a certificate that is its own authority; return a server's context, and its text."""
    key, certificate = folder / "kubernetes-key.pem", folder / "kubernetes-certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=kubernetes"),
            *("-days", "2", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate.read_bytes()
