"""An owner's calls to the control plane: register, submit, follow.

Authenticated by the owner's own JWT; row level security decides what is seen.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import cast

import orjson
import simplejson

from tendril_rt.control import snapshot as configuration
from tendril_rt.control.inventory import Inventory
from tendril_rt.control.rest import Rest, TokenSource, connect
from tendril_rt.control.signing import Envelope, Signer, stack_key_of
from tendril_rt.errors import Unavailable
from tendril_rt.model import ClusterId, Operation, ProvisionId, Status, StreamType

_PAGE_ROWS = 500
_TIMEOUT_S = 10.0
_MAX_ANSWER_BYTES = 256 * 1024 * 1024  # a page of the largest chunks, whatever their escapes


@dataclass(frozen=True, slots=True)
class Registration:
    """A new cluster. *token* is shown this once and stored nowhere in clear."""

    cluster_id: ClusterId
    token: str


@dataclass(frozen=True, slots=True)
class ProvisionState:
    """What the owner sees of a provision; times are ISO 8601 text as the database gave them."""

    status: Status
    attempt: int
    error_message: str | None
    error_code: str | None
    created_at: str
    started_at: str | None
    completed_at: str | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """One stored chunk of log."""

    attempt: int
    seq: int
    stream: StreamType
    text: str


class Owner:
    """One owner's session; see :func:`owner`. Raises as :class:`Rest` does.

    :ivar inventory: what else belongs to the owner
    """

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self.inventory = Inventory(rest)

    async def register_cluster(self, name: str, *, max_concurrency: int = 1) -> Registration:
        """Make a cluster and its first token."""
        answer = await self._rest.call(
            "register_cluster", {"p_name": name, "p_max_concurrency": max_concurrency}
        )
        with _read("register_cluster"):
            fields: Mapping[str, str] = dict(answer)  # type: ignore[call-overload]
            return Registration(ClusterId(fields["cluster_id"]), fields["token"])

    async def create_provision(
        self,
        cluster_id: ClusterId,
        snapshot: Mapping[str, object] | str,
        *,
        operation: Operation = Operation.APPLY,
        configuration_id: str | None = None,
        signer: Signer | None = None,
        not_after: int = 0,
    ) -> ProvisionId:
        """Queue a provision of *snapshot*, with its configuration hash made here.

        :param snapshot: a mapping, or JSON text that is sent as it is
        :param configuration_id: the configuration it was made from, which then names the stack
        :param signer: signs it, to hold until *not_after* (Unix seconds; 0: for ever)
        """
        text = (
            snapshot if isinstance(snapshot, str) else simplejson.dumps(snapshot, use_decimal=True)
        )
        signature = None
        if signer is not None:
            stack_key = stack_key_of(text, cluster_id, configuration_id)
            signature = signer.sign(Envelope(cluster_id, operation, stack_key, text, not_after))
        rows = await self._rest.call(
            "create_provision",
            {
                "p_cluster_id": cluster_id,
                "p_config_snapshot": orjson.Fragment(text),  # keeps integers beyond 64 bits
                "p_configuration_hash": configuration.snapshot_hash(text),
                "p_operation": operation.value,
                **({"p_configuration_id": configuration_id} if configuration_id else {}),
                **({"p_signature": signature} if signature else {}),
            },
            select=("id",),
        )
        if not isinstance(rows, list) or len(rows) != 1:
            raise Unavailable("create_provision answered no row: are the migrations applied?")
        with _read("create_provision"):
            return ProvisionId(str(rows[0]["id"]))

    async def cancel_provision(
        self, provision_id: ProvisionId, *, force: bool = False
    ) -> Mapping[str, object]:
        """Ask for a running provision to stop; a queued one is cancelled at once.

        Answers {status, changed, cancel: none|graceful|force}.
        """
        answer = await self._rest.call(
            "cancel_provision", {"p_provision_id": provision_id, "p_force": force}
        )
        with _read("cancel_provision"):
            return dict(answer)  # type: ignore[call-overload,no-any-return]

    async def provision(self, provision_id: ProvisionId) -> ProvisionState | None:
        """Return where a provision stands; None if it does not exist for this owner."""
        rows = await self._rest.rows(
            "provisions",
            ProvisionState.__slots__,  # the dataclass names exactly the columns
            equal={"id": provision_id},
        )
        if not rows:
            return None
        with _read("provisions"):
            row = cast("dict[str, str]", rows[0])
            return ProvisionState(**{**row, "status": Status(row["status"])})  # type: ignore[arg-type]

    async def recent_provisions(self, cluster_id: ClusterId) -> list[ProvisionId]:
        """Return the cluster's provisions, oldest first, at most one page."""
        rows = await self._rest.rows(
            "provisions",
            ("id",),
            equal={"cluster_id": cluster_id},
            order=("seq",),
            limit=_PAGE_ROWS,
        )
        with _read("provisions"):
            return [ProvisionId(str(row["id"])) for row in rows]

    async def logs(
        self, provision_id: ProvisionId, *, attempt: int, after_seq: int
    ) -> list[LogRow]:
        """Return one page of the attempt's stored chunks above *after_seq* (-1: from the first)."""
        rows = await self._rest.rows(
            "provision_logs",
            ("attempt", "seq", "stream_type", "log_chunk"),
            equal={"provision_id": provision_id, "attempt": str(attempt)},
            above={"seq": after_seq},
            order=("seq",),
            limit=_PAGE_ROWS,
        )
        with _read("provision_logs"):
            return [
                LogRow(
                    int(str(row["attempt"])),
                    int(str(row["seq"])),
                    StreamType(str(row["stream_type"])),
                    str(row["log_chunk"]),
                )
                for row in rows
            ]

    async def cluster_status(self, cluster_id: ClusterId) -> str | None:
        """Return PENDING, ONLINE or OFFLINE; None if it does not exist for this owner."""
        rows = await self._rest.rows("clusters", ("status",), equal={"id": cluster_id})
        with _read("clusters"):
            return str(rows[0]["status"]) if rows else None


@contextmanager
def _read(what: str) -> Iterator[None]:
    """Read an answer in the block: what is of another shape is :class:`Unavailable`."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as exc:
        raise Unavailable(
            f"{what} answered something that is not ours: are the migrations applied?"
        ) from exc


@asynccontextmanager
async def owner(url: str, api_key: str, user_token: str | TokenSource) -> AsyncIterator[Owner]:
    """Open an owner's session; nothing is sent before the first call.

    :param user_token: the owner's JWT, or what gives the present one before each request
    """
    async with connect(
        url,
        api_key,
        token=user_token,
        headers={},
        timeout_s=_TIMEOUT_S,
        max_answer_bytes=_MAX_ANSWER_BYTES,
    ) as rest:
        yield Owner(rest)
