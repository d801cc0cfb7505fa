"""The schema cache: which tables and functions of schema public there are, as PostgREST keeps it.

Owns one listening connection. Reloads on ``NOTIFY pgrst, 'reload schema'`` and after the database
was away; in between it may be stale, exactly as the real one. Knows no privileges: Postgres checks
those.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import anyio
import anyio.abc
import psycopg
from pydantic import TypeAdapter

from tendril_rt import resources
from tendril_rt.errors import LocalError
from tendril_rt.local.gateway.refusals import Refused

_RETRY_S = 0.2
_LOOK_S = 0.2  # how often a listener looks whether somebody lost the catalog

Settings = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Argument:
    """A named argument of a function; *type* is as Postgres writes it."""

    name: str
    type: str
    is_required: bool


@dataclass(frozen=True)
class Function:
    """A function that can be called by name; *settings* hold for the calling statement too."""

    name: str
    arguments: tuple[Argument, ...]
    is_composite: bool
    is_set: bool
    is_void: bool
    is_read_only: bool
    settings: Settings

    def takes(self, keys: Collection[str]) -> bool:
        """Return whether a call with the arguments *keys* is a call of this function."""
        required = {argument.name for argument in self.arguments if argument.is_required}
        return required <= set(keys) <= {argument.name for argument in self.arguments}

    def __str__(self) -> str:
        arguments = ", ".join(f"{a.name} => {a.type}" for a in self.arguments)
        return f"public.{self.name}({arguments})"


@dataclass(frozen=True)
class Catalog:
    """One state of the schema: columns and their types by table, functions, settings by role."""

    tables: Mapping[str, Mapping[str, str]]
    functions: tuple[Function, ...]
    roles: Mapping[str, Settings]

    def table(self, name: str) -> Mapping[str, str]:
        """Return the columns of table *name*.

        :raises Refused: there is no such table; the hint names one that is spelt much like it
        """
        if name in self.tables:
            return self.tables[name]
        near = _nearest(name, self.tables, at_least=0.75)
        raise Refused(
            404,
            "PGRST205",
            f"Could not find the table 'public.{name}' in the schema cache",
            hint=near and f"Perhaps you meant the table 'public.{near}'",
        )

    def function(self, name: str, keys: Collection[str], *, unnamed: str = "") -> Function:
        """Return the one function *name* that takes the arguments *keys*.

        :param unnamed: type of a single argument without a name that the body could be, or empty;
            such functions are not offered, but the refusal says that they were looked for
        :raises Refused: there is none, or more than one
        """
        named = [function for function in self.functions if function.name == name]
        is_raw = unnamed not in ("", "json/jsonb")
        fitting = [] if is_raw else [function for function in named if function.takes(keys)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refused(
                300,
                "PGRST203",
                "Could not choose the best candidate function between: "
                + ", ".join(map(str, fitting)),
                hint="Try renaming the parameters or the function itself in the database so "
                "function overloading can be resolved",
            )
        given = ", ".join(sorted(keys))
        shown = f"({given})" if keys else " without parameters"
        searched = [f"with parameter{'s' if len(keys) > 1 else ''} {given}" if keys else shown[1:]]
        near = None if is_raw else self._near(name, f"({given})", named)
        if is_raw:
            shown, searched = "", []
        if unnamed:
            searched.append(f"with a single unnamed {unnamed} parameter")
        raise Refused(
            404,
            "PGRST202",
            f"Could not find the function public.{name}{shown} in the schema cache",
            f"Searched for the function public.{name} {' or '.join(searched)}, but no matches were "
            "found in the schema cache.",
            near and f"Perhaps you meant to call the function public.{near}",
        )

    def _near(self, name: str, given: str, named: Sequence[Function]) -> str | None:
        """Return what a caller of ``name(given)`` may have meant."""
        if not named:
            return _nearest(name, [function.name for function in self.functions], at_least=0.75)
        lists = [", ".join(sorted(a.name for a in function.arguments)) for function in named]
        near = _nearest(given, [f"({arguments})" for arguments in lists], at_least=0.33)
        return near and name + near


_CATALOG = TypeAdapter(Catalog)


class SchemaCache:
    """The catalog as it was last read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._catalog: Catalog | None = None

    @classmethod
    @asynccontextmanager
    async def following(cls, url: str) -> AsyncIterator[Self]:
        """Keep a cache until the block ends; it is filled when the block begins.

        :raises LocalError: the database cannot be reached
        """
        cache = cls(url)
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(cache._follow)
                yield cache
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from None  # the block's own error, as its callers know it

    @property
    def catalog(self) -> Catalog:
        """The catalog.

        :raises Refused: the database went away and has not come back
        """
        if self._catalog is None:
            message = "Could not query the database for the schema cache. Retrying."
            raise Refused(503, "PGRST002", message)
        return self._catalog

    def forget(self) -> None:
        """Read the catalog again before anybody uses it: a connection broke."""
        self._catalog = None

    async def _follow(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        is_started = False
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5
                ) as connection:
                    await connection.execute("listen pgrst")
                    await self._load(connection)
                    if not is_started:
                        task_status.started()
                        is_started = True
                    await self._reload_for_ever(connection)
            except psycopg.OperationalError as exc:
                if not is_started:
                    raise LocalError(f"the gateway cannot reach its database: {exc}") from exc
                await anyio.sleep(_RETRY_S)

    async def _reload_for_ever(self, connection: psycopg.AsyncConnection) -> None:
        while True:
            notices = [
                notice async for notice in connection.notifies(timeout=_LOOK_S, stop_after=1)
            ]
            is_asked = any(notice.payload in ("", "reload schema") for notice in notices)
            if is_asked or self._catalog is None:
                await self._load(connection)

    async def _load(self, connection: psycopg.AsyncConnection) -> None:
        cursor = await connection.execute(resources.read("embedded/rest_catalog.sql").encode())
        [row] = await cursor.fetchall()
        self._catalog = _CATALOG.validate_python(row[0])


def _nearest(word: str, candidates: Collection[str], *, at_least: float) -> str | None:
    """Return the candidate with the best Levenshtein similarity (0 to 1), if it is good enough."""
    best = max(candidates, key=lambda candidate: _similarity(word, candidate), default=None)
    return best if best is not None and _similarity(word, best) >= at_least else None


def _similarity(left: str, right: str) -> float:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left.lower(), 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(right.lower(), 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return 1 - row[-1] / max(len(left), len(right), 1)
