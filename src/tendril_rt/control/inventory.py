"""What an owner has: clusters, their tokens and agents, configurations, provisions.

Rows are as the control plane gave them: names are those of ``docs/schema.md``, times ISO 8601 text.
Every method raises as :class:`Rest` does.
"""

from collections.abc import Mapping
from typing import TypeAlias

import orjson
import simplejson

from tendril_rt.control.rest import Rest
from tendril_rt.control.snapshot import parse_snapshot
from tendril_rt.errors import Unavailable
from tendril_rt.model import ClusterId, ProvisionId

Row: TypeAlias = Mapping[str, object]

_PAGE_ROWS = 500
_CLUSTER = ("id", "name", "status", "last_heartbeat", "max_concurrency", "drain", "created_at")
_TOKEN = ("id", "fingerprint", "created_at", "expires_at", "revoked_at", "last_used_at")
_AGENT = ("id", "hostname", "version", "state", "capacity", "first_seen", "last_seen")
_CONFIGURATION = ("id", "cluster_id", "name", "updated_at")
_PROVISION = ("id", "cluster_id", "configuration_id", "operation", "status", "attempt")
_PROVISION_TIMES = ("created_at", "started_at", "completed_at", "cancel_requested_at")
_PROVISION_ENDS = ("error_code", "error_message")


class Inventory:
    """Reads and manages what belongs to one owner."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    async def clusters(self) -> list[Row]:
        """Return every cluster, by name."""
        return await self._all("clusters", _CLUSTER, order=("name", "created_at"))

    async def tokens(self, cluster_id: ClusterId) -> list[Row]:
        """Return the cluster's tokens, never the secret ones themselves."""
        equal = {"cluster_id": cluster_id}
        return await self._all("cluster_tokens", _TOKEN, equal=equal, order=("created_at",))

    async def agents(self, cluster_id: ClusterId) -> list[Row]:
        """Return the cluster's agents, the one that was heard last first."""
        equal = {"cluster_id": cluster_id}
        return await self._all("agents", _AGENT, equal=equal, order=("-last_seen",))

    async def installed_agents(self, cluster_id: ClusterId, install_id: str) -> list[Row]:
        """Return the agents that say that they belong to this installation."""
        equal = {"cluster_id": cluster_id, "install_id": install_id}
        return await self._all("agents", _AGENT, equal=equal, order=("-last_seen",))

    async def rotate_token(
        self, cluster_id: ClusterId, *, old_expires_at: str | None = None
    ) -> Row:
        """Make one more token, which is in the answer and nowhere else.

        :param old_expires_at: when the others end, ISO 8601; None leaves them
        """
        extra = {"p_old_expires_at": old_expires_at} if old_expires_at else {}
        return await self._object("rotate_cluster_token", p_cluster_id=cluster_id, **extra)

    async def revoke_token(self, token_id: str) -> Row:
        """Refuse a token from now on."""
        return await self._object("revoke_cluster_token", p_token_id=token_id)

    async def set_options(
        self, cluster_id: ClusterId, *, max_concurrency: int | None, drain: bool | None
    ) -> Row:
        """Change what a cluster takes on; None leaves it as it is."""
        return await self._object(
            "set_cluster_options",
            p_cluster_id=cluster_id,
            p_max_concurrency=max_concurrency,
            p_drain=drain,
        )

    async def configurations(self) -> list[Row]:
        """Return every configuration, by name."""
        return await self._all("configurations", _CONFIGURATION, order=("name", "created_at"))

    async def configuration_text(self, configuration_id: str) -> str:
        """Return a configuration as JSON text with every digit that was saved.

        :raises Unavailable: it is gone, or the answer is not ours
        """
        parts = ("options", "template_source", "terraform_vars")
        rows = await self._rest.rows(
            "configurations",
            [f"{name}::text" for name in parts],  # as text: no number is read on the way
            equal={"id": configuration_id},
        )
        if not rows:
            raise Unavailable(f"configuration {configuration_id} is gone: look at the list again")
        whole = {
            name: simplejson.loads(str(text), use_decimal=True)
            for name, text in rows[0].items()
            if text is not None
        }
        options = whole.pop("options", {})
        return simplejson.dumps({**whole, **options}, use_decimal=True, indent=2) + "\n"

    async def save_configuration(
        self, cluster_id: ClusterId, name: str, text: str, *, configuration_id: str | None = None
    ) -> Row:
        """Save the JSON *text* as it is: a new configuration, or *configuration_id* changed.

        :raises SnapshotError: an agent would refuse it
        """
        parse_snapshot(text)
        arguments: dict[str, object] = {
            "p_cluster_id": cluster_id,
            "p_name": name,
            "p_config_snapshot": orjson.Fragment(text),
        }
        if configuration_id is not None:
            arguments["p_configuration_id"] = configuration_id
        rows = await self._rest.call("save_configuration", arguments, select=_CONFIGURATION)
        return _one("save_configuration", rows[0] if isinstance(rows, list) and rows else None)

    async def provisions(
        self, *, cluster_id: ClusterId | None = None, at_most: int | None = None
    ) -> list[Row]:
        """Return provisions, the newest first."""
        return await self._all(
            "provisions",
            (*_PROVISION, *_PROVISION_TIMES, *_PROVISION_ENDS),
            equal={"cluster_id": cluster_id} if cluster_id else {},
            order=("-seq",),
            at_most=at_most,
        )

    async def provision(self, provision_id: ProvisionId) -> Row | None:
        """Return all there is to see of a provision; None if the owner has none of that id."""
        columns = (*_PROVISION, *_PROVISION_TIMES, *_PROVISION_ENDS)
        more = (
            "stack_key",
            "configuration_hash",
            "execution_metadata",
            "force_cancel_requested_at",
        )
        rows = await self._rest.rows("provisions", (*columns, *more), equal={"id": provision_id})
        return rows[0] if rows else None

    async def _all(
        self,
        table: str,
        columns: tuple[str, ...],
        *,
        order: tuple[str, ...],
        equal: Mapping[str, str] | None = None,
        at_most: int | None = None,
    ) -> list[Row]:
        """Read page after page: projects limit how many rows one answer has."""
        found: list[Row] = []
        while at_most is None or len(found) < at_most:
            wanted = _PAGE_ROWS if at_most is None else min(_PAGE_ROWS, at_most - len(found))
            page = await self._rest.rows(
                table, columns, equal=equal or {}, order=order, limit=wanted, offset=len(found)
            )
            found += page
            if len(page) < wanted:
                break
        return found

    async def _object(self, function: str, **arguments: object) -> Row:
        return _one(function, await self._rest.call(function, arguments))


def _one(function: str, answer: object) -> Row:
    if not isinstance(answer, dict):
        raise Unavailable(f"{function} answered no row: are the migrations applied?")
    return answer
