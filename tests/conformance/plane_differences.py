"""Where the gateway answers otherwise than PostgREST 12.0.2, and why; all else is the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .plane_exchanges import Expected, refused
from .plane_hostile import functions
from .plane_tables import WRITES

_JSON = "Empty or invalid json"


@dataclass(frozen=True)
class Difference:
    """Exchanges that differ for one reason.

    :ivar gateway: what the gateway answers instead; None: the same but for the hint
    """

    why: str
    exchanges: Sequence[str]
    gateway: Expected | None = None


#: Functions with a name so short that 12 finds ``f(p_hostile)`` like them.
_SUGGESTED_TO_AN_ARRAY = (
    "queue_depth",
    "revoke_cluster_token",
    "mark_offline_clusters",
    "prune_logs",
    "reap_leases",
)

DIFFERENCES: Sequence[Difference] = (
    Difference(
        "12 suggests names from a likeness of 0.33 on (14: 0.75); the gateway measures more "
        "simply, and suggests a function only if it has all the arguments given",
        (
            *(f"{f.name}: an unknown argument" for f in functions() if f.schema == "public"),
            *(f"{name}: an array" for name in _SUGGESTED_TO_AN_ARRAY),
        ),
    ),
    Difference(
        "PATCH and DELETE: no client of ours sends them, the gateway does not offer them; with "
        "PostgREST it is the database that refuses",
        tuple(exchange.name for exchange in WRITES),
        Expected(501, {"code": "TENDRIL501"}),
    ),
    Difference(
        "the gateway reads the keys of a body with a parser that takes no number beyond 1.8e308 "
        "and no nesting beyond 1024; it refuses, and alters nothing",
        ("agent_heartbeat: nested deeply", "agent_heartbeat: a number of 500 digits"),
        refused("PGRST102", _JSON),
    ),
    Difference(
        "a body beyond 16 MiB: the gateway does not take it in; PostgREST has no limit of its own",
        ("create_provision: seventeen megabytes",),
        Expected(413),
    ),
    Difference(
        "12 hands a value of the URL on as a C string, which ends at a NUL; the gateway refuses it",
        ("clusters: a NUL in a filter",),
        refused("22P05"),
    ),
)

#: By exchange.
OF: Mapping[str, Difference] = {name: each for each in DIFFERENCES for name in each.exchanges}
