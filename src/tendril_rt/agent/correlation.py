"""What belongs together in the agent's own log: fields carried by the context of a task.

Tasks inherit the context of whoever started them, so every record that is written on behalf of an
attempt carries its fields, also those of modules that know no attempt. Whoever formats records
reads :func:`fields`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NONE: Mapping[str, str | int] = MappingProxyType({})
_fields: ContextVar[Mapping[str, str | int]] = ContextVar("tendril_log_fields", default=_NONE)


def fields() -> Mapping[str, str | int]:
    """Return the fields of the running task: agent, cluster, provision, attempt, if known."""
    return _fields.get()


@contextmanager
def correlated(**more: str | int) -> Iterator[None]:
    """Add fields to every record of the block and of the tasks that it starts."""
    token = _fields.set({**_fields.get(), **more})
    try:
        yield
    finally:
        _fields.reset(token)
