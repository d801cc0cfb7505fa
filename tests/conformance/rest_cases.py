"""The recorded answers of PostgREST, made into requests that a server can be sent.

They are sent in recorded order to one database, since later ones see the writes of earlier ones,
and compared afterwards: a failing case cannot hide the ones behind it.
"""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType, TypedDict
from urllib.parse import urlsplit

import jwt
import psycopg

from tendril_rt.local.postgres import Server

SECRET = "conformance-secret-of-at-least-sixty-four-bytes-for-the-sake-of-hs512"
_WRONG_SECRET = SECRET[::-1]
_COMPARED = ("content-type", "content-range", "www-authenticate", "retry-after", "proxy-status")
_TIMEOUT_S = 20.0

CaseName = NewType("CaseName", str)


class Request(TypedDict):
    """What was sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None


class Response(TypedDict):
    """What came back."""

    status: int
    reason: str
    headers: dict[str, str]
    body: str


class Case(TypedDict, total=False):
    """One exchange; *condition* is there where the database was stopped first."""

    name: CaseName
    request: Request
    response: Response
    condition: str


class Token(TypedDict):
    """How a JWT is made."""

    header: dict[str, str]
    claims: dict[str, object]
    signature: str


class Recording(TypedDict):
    """The file."""

    sql_setup: list[str]
    tokens: dict[str, Token]
    cases: list[Case]


RECORDING: Recording = json.loads(
    (Path(__file__).parent / "recordings" / "postgrest" / "rpc.json").read_text(encoding="utf-8")
)
CASES: Mapping[CaseName, Case] = {case["name"]: case for case in RECORDING["cases"]}


@dataclass(frozen=True)
class Target:
    """A server under test: its address, and headers that go with every request."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


async def prepare(server: Server) -> str:
    """Run the recording's script on *server*; return the URL of role authenticator."""
    async with await psycopg.AsyncConnection.connect(server.url()) as connection:
        await connection.execute("\n".join(RECORDING["sql_setup"]).encode())
    return f"postgresql://authenticator:authenticator@127.0.0.1:{server.port}/postgres"


def send(target: Target, case: Case) -> Response:
    """Send the case's request and return the answer; blocks, so call it in a thread."""
    request = case["request"]
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=_TIMEOUT_S)
    headers = {**target.headers, **request["headers"]}
    try:
        connection.request(
            request["method"],
            address.path + request["path"],
            None if request["body"] is None else request["body"].encode(),
            {name: _with_tokens(value) for name, value in headers.items()},
        )
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    kept = {name: value for name in _COMPARED if (value := answer.getheader(name)) is not None}
    return Response(status=answer.status, reason=answer.reason, headers=kept, body=body)


def comparable(response: Response) -> dict[str, object]:
    """Return what the recordings' README says is to be compared."""
    is_json = "json" in response["headers"].get("content-type", "") and response["body"]
    return {**response, "body": json.loads(response["body"]) if is_json else response["body"]}


def _with_tokens(value: str) -> str:
    return re.sub(r"<jwt:(\w+)>", lambda match: _token(RECORDING["tokens"][match[1]]), value)


def _token(token: Token) -> str:
    key = {"good": SECRET, "wrong": _WRONG_SECRET, "none": None}[token["signature"]]
    return jwt.encode(token["claims"], key, algorithm=token["header"]["alg"])  # type: ignore[arg-type]
