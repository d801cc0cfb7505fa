"""The cluster in the control plane, and its token in the cluster: made once, found afterwards.

A token is in memory between the control plane's answer and the Secret, and nowhere else. Where a
run ended in between, the next one makes another and revokes what nobody can have used.
"""

import base64
import hashlib
import uuid
from dataclasses import dataclass

from tendril_rt.bootstrap.journal import Journal
from tendril_rt.bootstrap.kubernetes import Kubernetes, Object
from tendril_rt.bootstrap.plan import Request
from tendril_rt.control.inventory import Row
from tendril_rt.control.owner import Owner
from tendril_rt.errors import Rejected
from tendril_rt.model import ClusterId

SECRET = "tendril-credentials"  # noqa: S105 - its name
_CLUSTER_MARK = "tendril.dev/cluster-id"
_INSTALL_MARK = "tendril.dev/install-id"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What is in the Secret, but for what is secret there.

    :ivar install_id: new with each token; the agent says it with its heartbeats
    """

    cluster_id: ClusterId
    install_id: str
    is_new: bool


class Registration:
    """See the module."""

    def __init__(self, request: Request, owner: Owner, journal: Journal) -> None:
        self._request = request
        self._owner = owner
        self._journal = journal
        self._fresh_token: str | None = None

    async def register(self) -> tuple[ClusterId, bool]:
        """Return the cluster's id, and whether it was registered only now.

        :raises Rejected: there is one of that name, which is not ours
        """
        name = self._request.name
        clusters = await self._owner.inventory.clusters()
        known = self._journal.fact("cluster_id")
        if known is not None:
            if any(row["id"] == known for row in clusters):
                return ClusterId(known), False
            raise Rejected(
                f"the cluster {known} that this bootstrap registered is gone, or another user's: "
                "sign in as the one who began, or begin anew with --destroy"
            )
        same = [row for row in clusters if row["name"] == name]
        if same and self._journal.fact("registering") != name:
            raise Rejected(
                f"you have a cluster {name!r} already ({same[0]['id']}), which no bootstrap from "
                "here made: choose another --environment"
            )
        if same:  # the run before this one ended between the call and its answer
            self._journal.note(cluster_id=str(same[0]["id"]))
            return ClusterId(str(same[0]["id"])), False
        self._journal.note(registering=name)
        made = await self._owner.register_cluster(name)
        self._journal.note(cluster_id=made.cluster_id)
        self._fresh_token = made.token
        return made.cluster_id, True

    async def store_token(self, kubernetes: Kubernetes, cluster_id: ClusterId) -> Credentials:
        """Make sure that the Secret holds a token that is live.

        :raises Rejected: the control plane refuses another token
        :raises KubernetesError: the Secret cannot be read or written
        """
        path = f"/api/v1/namespaces/{self._request.namespace}/secrets"
        found = await kubernetes.find(f"{path}/{SECRET}")
        tokens = await self._owner.inventory.tokens(cluster_id)
        if found is not None and self._is_good(found, cluster_id, tokens):
            install_id = str(_marks(found)[_INSTALL_MARK])
            return Credentials(cluster_id, install_id, is_new=False)
        token = self._fresh_token or await self._another(cluster_id, tokens)
        self._fresh_token = None
        install_id = uuid.uuid4().hex
        wanted = self._secret(cluster_id, install_id, token)
        if found is None:
            await kubernetes.create(path, wanted)
        else:
            found["metadata"]["annotations"] = {
                **_marks(found),
                **wanted["metadata"]["annotations"],
            }
            found["data"] = wanted["data"]
            await kubernetes.replace(f"{path}/{SECRET}", found)
        return Credentials(cluster_id, install_id, is_new=True)

    async def revoke(self, cluster_id: ClusterId) -> int:
        """Revoke every live token of the cluster; return how many there were."""
        live = [row for row in await self._owner.inventory.tokens(cluster_id) if _is_live(row)]
        for row in live:
            await self._owner.inventory.revoke_token(str(row["id"]))
        return len(live)

    async def _another(self, cluster_id: ClusterId, tokens: list[Row]) -> str:
        """Make a token, and revoke those that were lost: live, never used, in no Secret."""
        for row in tokens:
            if _is_live(row) and row["last_used_at"] is None:
                await self._owner.inventory.revoke_token(str(row["id"]))
        made = await self._owner.inventory.rotate_token(cluster_id)
        return str(made["token"])

    def _secret(self, cluster_id: ClusterId, install_id: str, token: str) -> Object:
        data = {"token": token, "api-key": self._request.api_key}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": SECRET,
                "namespace": self._request.namespace,
                "labels": {"app.kubernetes.io/managed-by": "grape"},
                "annotations": {_CLUSTER_MARK: cluster_id, _INSTALL_MARK: install_id},
            },
            "type": "Opaque",
            "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
        }

    def _is_good(self, secret: Object, cluster_id: ClusterId, tokens: list[Row]) -> bool:
        """Tell whether a Secret is as we would write it: of this cluster, with a live token."""
        marks = _marks(secret)
        if marks.get(_CLUSTER_MARK) != cluster_id or not marks.get(_INSTALL_MARK):
            return False
        data = secret.get("data") or {}
        kept = {
            name: base64.b64decode(data.get(name, "")).decode() for name in ("token", "api-key")
        }
        fingerprint = hashlib.sha256(kept["token"].encode()).hexdigest()[:12]
        live = {row["fingerprint"] for row in tokens if _is_live(row)}
        return fingerprint in live and kept["api-key"] == self._request.api_key


def _is_live(row: Row) -> bool:
    """Expiring ones are taken for dead: an agent that is to stay needs one that lasts."""
    return row["revoked_at"] is None and row["expires_at"] is None


def _marks(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})
