"""SQL expressions about one changed row, and the columns that they are made of.

Composes only; ``access.py`` runs them. Names are quoted as identifiers, every value is a parameter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from tendril_rt.local.gateway.replication import Change, Row
from tendril_rt.local.gateway.subscriptions import OPERATORS, Filter

Term = tuple[sql.Composable, tuple[str | None, ...]]
"""An expression of a select, and the values of its parameters."""


@dataclass(frozen=True)
class Column:
    """A row of ``realtime_columns.sql``: a column, as one role may use it."""

    name: str
    type_schema: str
    type_name: str
    is_key: bool
    is_readable: bool
    has_policies: bool

    @property
    def type(self) -> sql.Identifier:
        return _quoted(self.type_schema, self.type_name)


def condition(one: Filter, columns: Iterable[Column], row: Row) -> Term:
    """Tell whether the filter holds for *row*; a value that is absent fits no filter."""
    column = next((column for column in columns if column.name == one.column), None)
    if column is None or one.column not in row:
        return sql.SQL("false"), ()
    template = "coalesce({negation} (%s::{type} {operator} (%s::{type}{array})), false)"
    expression = sql.SQL(template).format(
        negation=sql.SQL("not" if one.is_negated else ""),
        type=column.type,
        operator=sql.SQL(OPERATORS[one.operator]),
        array=sql.SQL("[]" if one.operator == "in" else ""),
    )
    return expression, (row[one.column], one.value)


def visibility(change: Change, columns: Iterable[Column]) -> Term:
    """Tell whether whoever asks can select the new row by its key."""
    key = [column for column in columns if column.is_key]
    matches = [sql.SQL("{} = %s::{}").format(_quoted(column.name), column.type) for column in key]
    expression = sql.SQL("exists (select from {} where {})").format(
        _quoted(change.relation.schema, change.relation.table),
        sql.SQL(" and ").join(matches),
    )
    return expression, tuple(change.record.get(column.name) for column in key)


def as_json(column: Column, row: Row) -> Term:
    """Return the value of *column* as ``to_jsonb`` words it."""
    return sql.SQL("to_jsonb(%s::{})::text").format(column.type), (row[column.name],)


def _quoted(*names: str) -> sql.Identifier:
    # Identifier minds quotes, but not that a % beside parameters must be doubled.
    return sql.Identifier(*(name.replace("%", "%%") for name in names))
