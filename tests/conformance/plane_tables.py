"""What the tables answer: to reads, to the one insert that there is, to any other write."""

from collections.abc import Mapping, Sequence

from .plane_agents import snapshot
from .plane_exchanges import (
    BOBS_CLUSTER,
    CLUSTER,
    NOWHERE,
    Exchange,
    Expected,
    Step,
    ok,
    refused,
    rows,
)
from .plane_owners import LARGE, MALFORMED, NO_CONFIGURATION, TOO_LARGE

#: Every table, and its columns where an owner may not read all.
TABLES: Mapping[str, str] = {
    "agents": "",
    "audit_events": "",
    "cluster_tokens": "id,cluster_id,fingerprint,created_at,expires_at,revoked_at,last_used_at",
    "clusters": "",
    "configurations": "",
    "provision_leases": "",
    "provision_logs": "",
    "provisions": "",
}
#: The order in which its rows were made, and how many of them alice finds at the end.
_FOUND: Mapping[str, tuple[str, int]] = {
    "agents": ("id", 2),
    "audit_events": ("id", 45),
    "cluster_tokens": ("created_at", 5),
    "clusters": ("name,created_at", 4),
    "configurations": ("name", 2),
    "provision_leases": ("attempt", 1),
    "provision_logs": ("id", 7),
    "provisions": ("seq", 13),
}
_CHANGES: Mapping[str, Mapping[str, object]] = {
    "agents": {"hostname": "hostile"},
    "audit_events": {"action": "hostile"},
    "cluster_tokens": {"revoked_at": None},
    "clusters": {"name": "hostile"},
    "configurations": {"name": "hostile"},
    "provision_leases": {"phase": "PREPARE"},
    "provision_logs": {"log_chunk": "hostile"},
    "provisions": {"status": "SUCCESS"},
}


def _read(
    title: str, who: str, path: str, expected: Expected, body: object = None, **headers: str
) -> Exchange:
    table = path.partition("?")[0]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Exchange(f"{table}: {title}", who, f"/{path}", body, expected, headers=named)


_ASKED = {"cluster_id": CLUSTER, "config_snapshot": snapshot("inserted"), "operation": "PLAN"}
_FULL = "return=representation"
_DENIED = refused("42501", "permission denied for table provisions")
_INSERTED = {"status": "QUEUED", "attempt": 0, "operation": "PLAN", "configuration_hash": None}

_INSERTS: Sequence[Step] = (
    _read("inserted", "alice", "provisions", Expected(201, ""), _ASKED),
    _read(
        "inserted, minimal",
        "alice",
        "provisions",
        Expected(201, ""),
        _ASKED,
        Prefer="return=minimal",
    ),
    _read(
        "inserted, shown", "alice", "provisions", Expected(201, [_INSERTED]), _ASKED, Prefer=_FULL
    ),
    _read(
        "inserted by the service",
        "service_role",
        "provisions?select=status,operation",
        Expected(201, [{"status": "QUEUED", "operation": "PLAN"}]),
        _ASKED,
        Prefer=_FULL,
    ),
    _read(
        "inserted for another",
        "bob",
        "provisions",
        refused("42501", 'new row violates row-level security policy for table "provisions"'),
        _ASKED,
    ),
    _read(
        "inserted with another's configuration",
        "bob",
        "provisions",
        NO_CONFIGURATION,
        {**_ASKED, "cluster_id": BOBS_CLUSTER, "configuration_id": "<configuration>"},
    ),
    _read(
        "inserted with a status", "alice", "provisions", _DENIED, {**_ASKED, "status": "SUCCESS"}
    ),
    _read(
        "inserted by an agent",
        "anon",
        "provisions",
        Expected(401, {"code": "42501", "message": "permission denied for table provisions"}),
        _ASKED,
    ),
    _read(
        "inserted malformed", "alice", "provisions", MALFORMED, {**_ASKED, "config_snapshot": {}}
    ),
    _read(
        "inserted with explicit nulls",
        "alice",
        "provisions",
        refused("PT422", "config_snapshot is malformed"),
        dict.fromkeys(_ASKED),
    ),
    _read(
        "inserted with a wrong type",
        "alice",
        "provisions",
        refused("22P02"),
        {**_ASKED, "cluster_id": "hostile"},
    ),
    _read(
        "inserted with a NUL",
        "alice",
        "provisions",
        refused("22P05"),
        {**_ASKED, "config_snapshot": {"x": "\0"}},
    ),
    _read(
        "inserted with a megabyte",
        "alice",
        "provisions",
        TOO_LARGE,
        {**_ASKED, "config_snapshot": LARGE},
    ),
)


def _writes() -> list[Exchange]:
    """What the database refuses, whoever asks: nothing is changed or deleted but by functions."""
    found = []
    for table in TABLES:
        denied = f"permission denied for table {table}"
        change = _CHANGES[table]
        path = f"/{table}?{next(iter(change))}=not.is.null"
        for method, title, body in (("PATCH", "changed", change), ("DELETE", "deleted", None)):
            refusal = refused("42501", denied)
            found += [
                Exchange(f"{table}: {title}", "alice", path, body, refusal, method),
                Exchange(
                    f"{table}: {title} by an agent",
                    "anon",
                    path,
                    body,
                    Expected(401, {"code": "42501", "message": denied}),
                    method,
                ),
            ]
    return found


def _reads() -> list[Step]:
    """Everything that there is, as everybody."""
    steps = list[Step]()
    for table, columns in TABLES.items():
        order, found = _FOUND[table]
        path = f"{table}?select={columns or '*'}&order={order}"
        denied = {"code": "42501", "message": f"permission denied for table {table}"}
        key = "id" if table == "clusters" else "cluster_id"
        foreign = f"{path}&{key}=eq.{CLUSTER}"
        if table == "provision_logs":
            foreign = f"{path}&provision_id=eq.<exact>"
        steps += [
            _read("as their owner", "alice", path, rows(*[...] * found)),
            _read("as another owner", "bob", foreign, rows()),
            _read("as a malformed subject", "malformed subject", path, rows()),
            _read("as the service", "service_role", foreign, ok(...)),
            _read("as an agent", "anon", path, Expected(401, denied)),
            _read("without a token", "nobody", path, Expected(401, denied)),
        ]
        if columns:
            steps.append(_read("all columns", "alice", table, refused("42501", denied["message"])))
        if table != "provisions":
            row = {"provision_id": NOWHERE} if table == "provision_logs" else {key: CLUSTER}
            steps.append(
                _read("inserted", "alice", table, refused("42501", denied["message"]), row)
            )
    return steps


WRITES: Sequence[Exchange] = _writes()
STEPS: Sequence[Step] = (*_INSERTS, *WRITES)
READS: Sequence[Step] = _reads()
