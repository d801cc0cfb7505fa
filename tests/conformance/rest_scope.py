"""What the gateway leaves out, where PostgREST 12 differs from the recorded 14; the page on both.

``docs/conformance.md`` holds :func:`tables` word for word; a test sees to it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

from .rest_cases import CASES, CaseName

_HERE = Path(__file__).parent
PAGE = _HERE.parents[1] / "docs" / "conformance.md"

#: Answered with 501 on purpose, by reason.
OUT_OF_SCOPE: Mapping[str, tuple[str, ...]] = {
    "CSV: our clients ask for JSON": ("f_setof, Accept text/csv", "read: csv"),
    "bodies that are not one JSON object: our clients send no others": (
        "body: empty array",
        "body: array of one object",
        "body: text/plain",
        "body: form",
        "insert: bulk",
        "insert: bulk with different keys",
    ),
    "filters beyond `eq neq gt gte lt lte in is`, paths into JSON: no client of ours asks": (
        "read: like",
        "read: ilike",
        "read: or",
        "read: json arrow",
    ),
    "the header Range: clients send `limit` and `offset`": (
        "read: count exact with Range",
        "read: Range beyond the end, count exact",
        "read: Range beyond the end",
    ),
    "embedded resources: no client of ours asks for a join": (
        "read: embed children",
        "read: embed parent",
        "read: embed with order and limit",
        "read: embed unknown relation",
    ),
    "`Prefer: return=headers-only`: no client of ours reads Location": ("insert: headers-only",),
    "upsert: a provision is inserted once, and claimed by an RPC": (
        "insert: duplicate ignored",
        "insert: merge duplicate",
        "insert: on_conflict name merge",
        "upsert: PUT",
    ),
    "PATCH: every write but one INSERT goes through an RPC": tuple(
        name for name in CASES if name.startswith("update: ")
    ),
    "DELETE: nothing is ever deleted through the API": tuple(
        name for name in CASES if name.startswith("delete: ")
    ),
}

#: Answered as Supabase's front answers, before PostgREST is asked.
NOT_POSTGREST = CaseName("jwt: apikey header is ignored")


class Change(TypedDict, total=False):
    """What PostgREST 12 answers where that is not what 14 answered; ``"*"`` is not compared."""

    status: int
    reason: str
    headers: dict[str, str | None]
    body: object


class Difference(TypedDict):
    """Cases that differ for one reason."""

    why: str
    cases: dict[CaseName, Change]


DIFFERENCES: list[Difference] = json.loads(
    (_HERE / "postgrest_12.json").read_text(encoding="utf-8")
)


def tables() -> str:
    """Return the generated part of the page."""
    lines = ["| left out, and why | recorded cases |", "|---|---|"]
    for why, names in OUT_OF_SCOPE.items():
        lines.append(f"| {why} | {_listed(names)} |")
    lines += ["", "| PostgREST 12.0.2 against 14.17 | recorded cases |", "|---|---|"]
    for difference in DIFFERENCES:
        lines.append(f"| {difference['why']} | {_listed(tuple(difference['cases']))} |")
    return "\n".join(lines)


def _listed(names: tuple[str, ...]) -> str:
    return " · ".join(names)
