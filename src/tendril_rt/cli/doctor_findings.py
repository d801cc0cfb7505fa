"""What a check of ``tendril doctor`` finds."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is: a failure keeps an agent from working, a warning does not."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer.

    :ivar check: what was looked at
    :ivar cure: what to do, for all but ``ok``
    """

    check: str
    level: Level
    found: str
    cure: str | None = None


def ok(check: str, found: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, cure: str) -> Finding:
    """Return a finding to look at."""
    return Finding(check, Level.WARN, found, cure)


def fail(check: str, found: str, cure: str) -> Finding:
    """Return a finding to fix."""
    return Finding(check, Level.FAIL, found, cure)
