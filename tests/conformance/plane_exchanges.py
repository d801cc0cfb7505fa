"""What an exchange of the control-plane suite is: a request, what must come back, what is kept.

The exchanges are sent in order to a database of the target's own, since later ones see the writes
of earlier ones, and compared afterwards. Ids that an answer brings are kept under a name; requests
use it as ``<name>``, and answers are compared with it in their place. What no name stands for (ids,
times, tokens) is compared by kind. A value that was never kept is sent as it is written, so a
failing exchange cannot hide the ones behind it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TypeAlias

from tendril_rt.local.gateway import tokens

from .rest_cases import SECRET, Case, Request, Response, Target, send

ALICE = "a11ce000-0000-4000-8000-000000000001"
BOB = "b0b00000-0000-4000-8000-000000000002"
CLUSTER = "c0000000-0000-4000-8000-000000000001"
BOBS_CLUSTER = "c0000000-0000-4000-8000-000000000002"
NOWHERE = "c0000000-0000-4000-8000-00000000000f"
AGENT = "a0000000-0000-4000-8000-000000000001"
OTHER_AGENT = "a0000000-0000-4000-8000-000000000002"
CLAIM = "d0000000-0000-4000-8000-000000000001"
HASH = "a1" * 32
BOBS_HASH = "b0" * 32
WRONG_HASH = "ff" * 32
_FIXED = (ALICE, BOB, CLUSTER, BOBS_CLUSTER, NOWHERE, AGENT, OTHER_AGENT, CLAIM)

#: The claims of everybody who asks; "nobody" sends no token.
_CLAIMS: Mapping[str, Mapping[str, str]] = {
    "anon": {"role": "anon"},
    "alice": {"role": "authenticated", "sub": ALICE},
    "bob": {"role": "authenticated", "sub": BOB},
    "authenticated": {"role": "authenticated"},
    "malformed subject": {"role": "authenticated", "sub": "hostile"},
    "listener": {"role": "anon", "cluster_id": CLUSTER},
    "stranger's listener": {"role": "anon", "cluster_id": BOBS_CLUSTER},
    "service_role": {"role": "service_role"},
}
#: Of Postgres's own errors, the ones that the suite provokes.
_STATUS_OF = {"22": 400, "42501": 403, "25006": 405, "PGRST102": 400, "PGRST202": 404}
_VOLATILE = (
    (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00(?::00)?)", "<time>"),
    (r"\btendril_[0-9a-f]{64}\b", "<token>"),
    (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "<jwt>"),
)
_FINGERPRINTS = ("fingerprint",)

Names: TypeAlias = dict[str, str]


@dataclass(frozen=True)
class Expected:
    """What must come back; objects may have more keys than *body*, and ``...`` is not compared.

    :ivar reason: of a PTxyz: its message; None: the usual one
    """

    status: int
    body: object = ...
    reason: str | None = None


@dataclass(frozen=True)
class Exchange:
    """One request of *who*, by name.

    :ivar body: None: GET; text goes as it is, all else as JSON
    :ivar keeps: names for values of the answer, each with its path (``0.id``)
    """

    name: str
    who: str
    path: str
    body: object
    expected: Expected
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    keeps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Meanwhile:
    """What happens in the database by itself: time passes, the operator does something."""

    sql: str


Step: TypeAlias = Exchange | Meanwhile


def rows(*body: object) -> Expected:
    """Expect exactly so many rows."""
    return Expected(200, list(body))


def ok(body: object = ...) -> Expected:
    """Expect this as the answer."""
    return Expected(200, body)


def refused(code: str, message: object = ..., *, details: object = ...) -> Expected:
    """Expect a refusal with this SQLSTATE or code of PostgREST."""
    body = {"code": code, "message": message, "details": details}
    if code.startswith("PT"):
        return Expected(int(code[2:]), body, message if isinstance(message, str) else None)
    return Expected(_STATUS_OF.get(code) or _STATUS_OF[code[:2]], body)


def by_agent(
    name: str,
    function: str,
    expected: Expected,
    /,
    *,
    select: str = "",
    given: Mapping[str, object] | None = None,
    **arguments: object,
) -> Exchange:
    """Call as an agent of alice's cluster; arguments (without ``p_``) may say otherwise."""
    whole = {"cluster_id": CLUSTER, "token_hash": HASH, **(given or {}), **arguments}
    return Exchange(
        name=f"{function}: {name}",
        who="anon",
        path=f"/rpc/{function}" + (f"?select={select}" if select else ""),
        body={f"p_{argument}": value for argument, value in whole.items()},
        expected=expected,
    )


def by_owner(
    name: str,
    function: str,
    expected: Expected,
    /,
    *,
    who: str = "alice",
    keeps: Mapping[str, str] | None = None,
    given: Mapping[str, object] | None = None,
    **arguments: object,
) -> Exchange:
    """Call as alice, or as *who*."""
    return Exchange(
        name=f"{function}: {name}",
        who=who,
        path=f"/rpc/{function}",
        body={f"p_{argument}": value for argument, value in {**(given or {}), **arguments}.items()},
        expected=expected,
        keeps=keeps or {},
    )


def role_of(exchange: Exchange) -> str:
    """Return the role of who asks."""
    return _CLAIMS.get(exchange.who, _CLAIMS["anon"])["role"]


def _request_of(exchange: Exchange, names: Names) -> Request:
    """Return what is sent, with names replaced by what they stand for."""
    body = exchange.body
    if body is not None and not isinstance(body, str):
        body = json.dumps(body, ensure_ascii=False)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if claims := _CLAIMS.get(exchange.who):
        headers["Authorization"] = f"Bearer {tokens.sign(dict(claims), SECRET)}"
    elif exchange.who != "nobody":
        headers["Authorization"] = f"Bearer {_filled(exchange.who, names)}"
    return Request(
        method=exchange.method or ("GET" if body is None else "POST"),
        path=_filled(exchange.path, names),
        headers={**headers, **exchange.headers},
        body=None if body is None else _filled(body, names),
    )


def exchanged(target: Target, exchange: Exchange, names: Names) -> Response:
    """Send it; keep what it keeps in *names*. Blocks, so call it in a thread."""
    answer = send(target, Case(request=_request_of(exchange, names)))
    if exchange.keeps:
        body = _parsed(answer)
        for name, path in exchange.keeps.items():
            value = _at(body, path.split("."))
            if isinstance(value, str):
                names[name] = value
    return answer


def comparable(answer: Response, names: Names) -> dict[str, object]:
    """Return status, reason, headers and body, with what varies put by kind.

    ``Proxy-Status`` is newer than version 12.
    """
    headers = {name: text for name, text in answer["headers"].items() if name != "proxy-status"}
    known = {value: value for value in _FIXED} | {value: f"<{n}>" for n, value in names.items()}
    return {**answer, "headers": headers, "body": _settled(_parsed(answer), known)}


def faults(expected: Expected, got: Mapping[str, object]) -> list[str]:
    """Return in what *got*, as made by :func:`comparable`, is not as expected."""
    reason = expected.reason or HTTPStatus(expected.status).phrase
    found = [
        f"{part}: {got[part]!r}, not {want!r}"
        for part, want in (("status", expected.status), ("reason", reason))
        if got[part] != want
    ]
    return [*found, *_differences(expected.body, got["body"], "body")]


def _differences(want: object, got: object, where: str) -> Iterator[str]:
    if want is ...:
        return
    if isinstance(want, Mapping) and isinstance(got, Mapping):
        for key, value in want.items():
            yield from _differences(value, got.get(key, "(missing)"), f"{where}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for index, (one, other) in enumerate(zip(want, got, strict=True)):
            yield from _differences(one, other, f"{where}.{index}")
    elif want != got or isinstance(want, bool) != isinstance(got, bool):
        yield f"{where}: {got!r:.400}, not {want!r:.400}"


def _filled(text: str, names: Names) -> str:
    return re.sub(r"<(\w[\w' ]*)>", lambda match: names.get(match[1], match[0]), text)


def _parsed(answer: Response) -> object:
    is_json = "json" in answer["headers"].get("content-type", "") and answer["body"]
    return json.loads(answer["body"]) if is_json else answer["body"]


def _at(value: object, path: Sequence[str]) -> object:
    for step in path:
        if isinstance(value, list):
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _settled(value: object, known: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {
            key: "<fingerprint>" if key in _FINGERPRINTS and item else _settled(item, known)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_settled(item, known) for item in value]
    if not isinstance(value, str):
        return value
    for pattern, kind in _VOLATILE:
        value = re.sub(pattern, partial(_named, known, kind), value)
    return value


def _named(known: Mapping[str, str], kind: str, match: re.Match[str]) -> str:
    return known.get(match[0], kind)
