"""What a client subscribes to, and as whom: values, and the text they are read from.

Pure: knows neither sockets nor the database.
"""

import json
import re
from dataclasses import dataclass

from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway.replication import Change

OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "in": "= any",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
}
"""Name in a filter -> operator of Postgres. Of Realtime's, only ``is`` is not offered."""


class SubscriptionRefused(TendrilError):
    """What is subscribed to is not there, not published, or not understood; as Realtime says it."""

    code = "SUBSCRIPTION_REFUSED"


@dataclass(frozen=True)
class Identity:
    """Who asks: a role of Postgres, and the claims of the token as JSON."""

    role: str
    claims: str


@dataclass(frozen=True)
class Filter:
    """A condition on one column; *value* is text that Postgres casts to the column's type."""

    column: str
    operator: str
    value: str
    is_negated: bool

    def __str__(self) -> str:
        parts = json.dumps(
            [self.column, self.operator, self.value, self.is_negated], ensure_ascii=False
        )
        return f"{{{parts[1:-1]}}}"


@dataclass(frozen=True)
class Target:
    """What a client asks for: an event, or ``*``; a schema and a table, each or both ``*``."""

    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]

    def __str__(self) -> str:
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table}, "
            f"filters: [{', '.join(map(str, self.filters))}], select: nil]"
        )


@dataclass(frozen=True, eq=False)
class Subscription:
    """A target that was admitted. *id* is what its events carry."""

    id: int
    target: Target
    tables: frozenset[int]
    identity: Identity

    def covers(self, change: Change) -> bool:
        """Tell whether *change* is of the kind and the table asked for."""
        return change.relation.oid in self.tables and self.target.event in ("*", change.kind)


def parse_filters(text: str) -> tuple[Filter, ...]:
    """Return the conditions of ``column=[not.]operator.value``, several parted by commas.

    :raises SubscriptionRefused: with the part that is not understood
    """
    return tuple(_parse_filter(part) for part in re.split(r",(?![^(]*\))", text) if text.strip())


def _parse_filter(text: str) -> Filter:
    column, _, condition = text.strip().partition("=")
    operator, dot, value = condition.removeprefix("not.").partition(".")
    if not dot or operator not in OPERATORS:
        parts = [operator, value] if dot else [operator or column]
        raise SubscriptionRefused(
            f"Error parsing `filter` params: {json.dumps(parts, ensure_ascii=False)}"
        )
    if operator == "in":
        if value[:1] + value[-1:] != "()":
            raise SubscriptionRefused(
                "Error parsing `filter` params: `in` filter value must be wrapped by parentheses"
            )
        value = f"{{{value[1:-1]}}}"
    return Filter(column, operator, value, condition.startswith("not."))
