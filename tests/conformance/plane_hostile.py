"""What goes for every function alike: who may not call it, and what nobody should send.

Made from ``tests/integration/privileges.txt``, so that a new function is asked all of this as well.
None of it changes anything.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .plane_exchanges import (
    AGENT,
    CLUSTER,
    HASH,
    Exchange,
    Expected,
    Step,
    by_agent,
    by_owner,
    ok,
    refused,
    rows,
)

_FILE = Path(__file__).parents[1] / "integration" / "privileges.txt"
ROLES = ("anon", "authenticated", "service_role")
_TEN_MEGABYTES = "x" * 10_000_000


@dataclass(frozen=True)
class Function:
    """A function that an API role may call.

    :ivar arguments: name and type of each
    """

    schema: str
    name: str
    arguments: Mapping[str, str]
    roles: frozenset[str]


def functions() -> Sequence[Function]:
    """Return every function that an API role may call."""
    found: dict[tuple[str, str], set[str]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"(\w+) EXECUTE function (.+)", line):
            found.setdefault((match[2].partition("(")[0], match[2]), set()).add(match[1])
    made = []
    for (name, signature), roles in found.items():
        listed = signature.partition("(")[2].removesuffix(")")
        arguments = dict(item.split(" ", 1) for item in listed.split(", ") if item)
        schema, _, function = name.partition(".")
        made.append(Function(schema, function, arguments, frozenset(roles)))
    return made


def tables() -> set[str]:
    """Return every table that an API role may read something of."""
    pattern = r"\w+ SELECT (?:relation|column \w+) public\.(\w+)"
    return set(re.findall(pattern, _FILE.read_text(encoding="utf-8")))


#: Answered to nothing but nulls.
_NULLS: Mapping[str, Expected] = {
    "cancel_provision": refused("PT404", "no such provision"),
    "create_provision": refused("PT404", "no such cluster"),
    "mark_offline_clusters": ok(0),
    "prune_logs": refused("PT422", "p_older_than is an interval, not negative"),
    "queue_depth": ok(...),
    "reap_leases": ok(0),
    "register_cluster": refused("PT422", "a cluster name has 1 to 100 characters"),
    "revoke_cluster_token": refused("PT404", "no such token"),
    "rotate_cluster_token": refused("PT404", "no such cluster"),
    "save_configuration": refused("PT404", "no such cluster"),
    "set_cluster_options": refused("PT404", "no such cluster"),
}
_WRONG = refused("PT401", "cluster id or token are wrong")
_WRONG_TYPES: Mapping[str, tuple[object, str]] = {
    "uuid": ({"hostile": 1}, "22P02"),
    "integer": ("1; drop table", "22P02"),
    "boolean": ("maybe", "22P02"),
    "interval": ("hostile", "22007"),
    "timestamp with time zone": ("hostile", "22007"),
}


def _caller(function: Function) -> str:
    role = sorted(function.roles)[0]
    return "alice" if role == "authenticated" else role


def _asked(function: Function, title: str, expected: Expected, body: object) -> Exchange:
    path = f"/rpc/{function.name}"
    return Exchange(f"{function.name}: {title}", _caller(function), path, body, expected)


def _of(function: Function) -> Iterator[Exchange]:
    nulls = dict.fromkeys(function.arguments)
    for role in ROLES:
        if role not in function.roles:
            body = {
                "code": "42501",
                "message": f"permission denied for function {function.name}",
            }
            yield Exchange(
                f"{function.name}: by {role}",
                role,
                f"/rpc/{function.name}",
                nulls,
                Expected(401 if role == "anon" else 403, body),
            )
    yield _asked(function, "nothing but nulls", _NULLS.get(function.name, _WRONG), nulls)
    yield _asked(
        function, "an unknown argument", refused("PGRST202"), {**nulls, "p_hostile\r\n": 1}
    )
    yield _asked(function, "an array", refused("PGRST202"), {"p_hostile": [nulls]})
    for name, kind in function.arguments.items():
        if kind in _WRONG_TYPES:
            value, code = _WRONG_TYPES[kind]
            yield _asked(function, f"{name} of another type", refused(code), {**nulls, name: value})
        else:
            value = {"x": ["\0"]} if kind == "jsonb" else "\0"
            yield _asked(function, f"{name} with a NUL", refused("22P05"), {**nulls, name: value})


_LIST = "[" + "1," * 2_500_000 + "1]"


def _large(title: str, function: str, expected: Expected, argument: str, json: str) -> Exchange:
    agent = f'"p_cluster_id": "{CLUSTER}", "p_token_hash": "{HASH}"'
    given = {
        "insert_provision_logs": f'{agent}, "p_provision_id": "<exact>", "p_attempt": 1,'
        f' "p_agent_id": "{AGENT}", "p_first_seq": 0',
        "agent_heartbeat": agent,
        "agent_realtime_token": f'"p_cluster_id": "{CLUSTER}"',
        "create_provision": f'"p_cluster_id": "{CLUSTER}"',
    }[function]
    who = "alice" if function == "create_provision" else "anon"
    body = f'{{{given}, "{argument}": {json}}}'
    return Exchange(f"{function}: {title}", who, f"/rpc/{function}", body, expected)


_NESTED = "[" * 2000 + "]" * 2000
_NO_OBJECT = refused("PT422", "p_agent is an object with a uuid id")
_NO_LIST = refused("PT422", "p_chunks is a list of at most 1000 chunks")
_TOO_LARGE = refused("PT422", "config_snapshot is larger than 1 MiB")
_NOT_JSON = refused("PGRST102")

_BODIES: Sequence[Step] = (
    _large("ten megabytes", "insert_provision_logs", _NO_LIST, "p_chunks", f'"{_TEN_MEGABYTES}"'),
    _large("a list of five megabytes", "insert_provision_logs", _NO_LIST, "p_chunks", _LIST),
    _large(
        "ten megabytes",
        "create_provision",
        _TOO_LARGE,
        "p_config_snapshot",
        f'{{"x": "{_TEN_MEGABYTES}"}}',
    ),
    _large(
        "seventeen megabytes",
        "create_provision",
        _TOO_LARGE,
        "p_config_snapshot",
        f'{{"x": "{_TEN_MEGABYTES}{_TEN_MEGABYTES[:7_000_000]}"}}',
    ),
    by_agent("ten megabytes", "agent_heartbeat", _WRONG, token_hash=_TEN_MEGABYTES),
    _large("nested deeply", "agent_heartbeat", _NO_OBJECT, "p_agent", _NESTED),
    _large("a number of 500 digits", "agent_heartbeat", _NO_OBJECT, "p_agent", "9" * 500),
    _large("half a surrogate pair", "agent_heartbeat", _NOT_JSON, "p_agent", '{"id": "\\ud800"}'),
    _large("given twice", "agent_heartbeat", _NO_OBJECT, "p_agent", '{}, "p_agent": []'),
    _large("a number for text", "agent_realtime_token", _WRONG, "p_token_hash", "1"),
    _large("a raw NUL", "agent_heartbeat", _NOT_JSON, "p_agent", '"\0"'),
    _large("not JSON", "agent_heartbeat", _NOT_JSON, "p_agent", "hostile"),
    _large("not a number of JSON", "agent_heartbeat", _NOT_JSON, "p_agent", "NaN"),
)
_URLS: Sequence[Step] = (
    by_owner("not served", "set_jwt_secret", refused("PGRST202"), who="service_role", secret="x"),
    Exchange(
        "clusters: a NUL in a filter",
        "alice",
        "/clusters?select=name&name=eq.alice's%00x",
        None,
        rows({"name": "alice's"}),
    ),
    Exchange(
        "clusters: not a uuid in a filter",
        "alice",
        "/clusters?id=eq.hostile",
        None,
        refused("22P02"),
    ),
    Exchange(
        "queue_depth: not a uuid in the URL",
        "alice",
        "/rpc/queue_depth?p_cluster_id=x",
        None,
        refused("22P02"),
    ),
)

STEPS: Sequence[Step] = (
    *(step for function in functions() if function.schema == "public" for step in _of(function)),
    *_BODIES,
    *_URLS,
)
