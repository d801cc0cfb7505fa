"""What each command of ``grape`` works with: who asks, where it prints, and the names people give.

A cluster or configuration may be named by id or by name; a name that several bear is refused with
their ids.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tendril_rt.cli.account import Account
from tendril_rt.cli.output import Output
from tendril_rt.control.inventory import Row
from tendril_rt.control.owner import Owner
from tendril_rt.errors import ConfigError, Rejected
from tendril_rt.model import ProvisionId


@dataclass(frozen=True)
class Desk:
    """Handed to each command.

    :ivar environ: the process's environment, and the lines of ``--env``
    """

    account: Account
    output: Output
    environ: Mapping[str, str]


async def cluster_named(user: Owner, name: str | None, environ: Mapping[str, str]) -> Row:
    """Return the cluster that *name* names; None: that of ``GRAPE_CLUSTER``, or the only one.

    :raises Rejected: there is none, or more than one
    """
    name = name or environ.get("GRAPE_CLUSTER")
    clusters = await user.inventory.clusters()
    if name is None and len(clusters) != 1:
        raise ConfigError(
            "which cluster? Name it with --cluster or in GRAPE_CLUSTER: grape clusters list"
        )
    return clusters[0] if name is None else _the_one("cluster", "clusters", name, clusters)


async def configuration_named(
    user: Owner, name: str, cluster: str | None, environ: Mapping[str, str]
) -> Row:
    """Return the configuration that *name* names.

    :param cluster: where to look for a name; None: in that of ``GRAPE_CLUSTER``, or in all
    :raises Rejected: there is none, or more than one
    """
    within = None
    if cluster or environ.get("GRAPE_CLUSTER"):
        within = (await cluster_named(user, cluster, environ))["id"]
    found = [
        row
        for row in await user.inventory.configurations()
        if row["id"] == name.lower() or within in (None, row["cluster_id"])
    ]
    return _the_one("configuration", "config", name, found)


async def provision_named(user: Owner, name: str | None) -> ProvisionId:
    """Return the id in *name*; None: of the newest provision.

    :raises Rejected: there is none
    """
    if name is None:
        newest = await user.inventory.provisions(at_most=1)
        if not newest:
            raise Rejected("you have no provision yet: grape deploy")
        return ProvisionId(str(newest[0]["id"]))
    try:
        return ProvisionId(str(uuid.UUID(name)))
    except ValueError:
        raise ConfigError(f"{name!r} is not the id of a provision: grape provisions list") from None


def _the_one(kind: str, command: str, name: str, rows: Sequence[Row]) -> Row:
    found = [row for row in rows if row["id"] == name.lower()]
    found = found or [row for row in rows if row["name"] == name]
    if not found:
        raise Rejected(f"you have no {kind} {name!r}: grape {command} list")
    if len(found) > 1:
        ids = "".join(f"\n  {row['id']}" for row in found)
        raise Rejected(f"{len(found)} {kind}s are named {name!r}; name one by its id:{ids}")
    return found[0]
