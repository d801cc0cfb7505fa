"""Which channel a session with Realtime joins, and what it asks for there. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from tendril_rt.control.push import Path
from tendril_rt.model import ClusterId, ProvisionId


class Door(Protocol):
    """How to reach a project: :class:`ControlSettings` and grape's own have both."""

    @property
    def url(self) -> str:
        """Base URL of the project."""

    @property
    def api_key(self) -> str:
        """The anon key."""


@dataclass(frozen=True, slots=True)
class Change:
    """Rows of a table in schema ``public`` to hear of, such as those with ``id=eq.…``."""

    event: Literal["INSERT", "UPDATE"]
    table: str
    filter: str


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel. A private one brings broadcasts too: on a public topic anybody could send."""

    topic: str
    changes: tuple[Change, ...]
    is_private: bool = False


def of_cluster(cluster_id: ClusterId, paths: Collection[Path]) -> Channel:
    """Return the channel on which an agent hears that there is something to claim."""
    inserts = Change("INSERT", "provisions", f"cluster_id=eq.{cluster_id}")
    return Channel(
        f"cluster:{cluster_id}",
        (inserts,) if Path.CHANGES in paths else (),
        is_private=Path.BROADCAST in paths,
    )


def of_provision(provision_id: ProvisionId) -> Channel:
    """Return the channel on which an owner hears that a provision or its log went on."""
    return Channel(
        f"provision:{provision_id}",
        (
            Change("INSERT", "provision_logs", f"provision_id=eq.{provision_id}"),
            Change("UPDATE", "provisions", f"id=eq.{provision_id}"),
        ),
    )
