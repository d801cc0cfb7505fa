"""The agent's own log on stderr: text for people, or one JSON object a line.

Every record carries the fields of the task that wrote it (agent, cluster, provision, attempt), and
none carries a secret, whoever wrote it: what is written is masked as the last thing.
"""

import hashlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import orjson

from tendril_rt.agent import correlation
from tendril_rt.cli.terminal import harmless

_QUIET = (
    "httpx",
    "httpcore",
    "websockets",
    "realtime",
)  # they log each request, and URLs with keys

_MASK = "***"
_SHORT = 8  # of an id on a console; docs/operations.md says so
_SHAPES = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@"  # credentials in a URL
    r"|\beyJ[\w-]+\.eyJ[\w-]+\.[\w-]+",  # a JWT
    re.IGNORECASE,
)

Mask = Callable[[str], str]


def masking(secrets: Iterable[str]) -> Mask:
    """Return what masks *secrets* (also escaped, as repr and JSON do), their sha256 (which is what
    agents authenticate by), credentials in URLs, and JWTs.
    """
    known = {text for text in secrets if text}
    hashes = {hashlib.sha256(text.encode()).hexdigest() for text in known}
    known |= hashes | {form(text)[1:-1] for text in known for form in (repr, json.dumps)}
    # The longest first: one may begin with another.
    literal = "|".join(re.escape(text) for text in sorted(known, key=len, reverse=True))
    exact = re.compile(literal) if known else None

    def mask(text: str) -> str:
        text = exact.sub(_MASK, text) if exact else text
        return _SHAPES.sub(
            lambda found: f"{found['scheme']}{_MASK}@" if found["scheme"] else _MASK, text
        )

    return mask


class _Console(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%SZ")
        provision = str(correlation.fields().get("provision", ""))
        which = f"[{provision[:_SHORT]}] " if provision else ""
        text = f"{at} {record.levelname:<7} {which}{record.getMessage()}"
        # Indented, so that no text of others can pass for a record of its own.
        lines = "\n".join([text, *_details(self, record)]).replace("\n", "\n  ")
        return self._mask(harmless(lines, colours=False))


class _Json(logging.Formatter):
    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **correlation.fields(),
            "message": self._mask(record.getMessage()),
        }
        if details := _details(self, record):
            fields["exception"] = self._mask("\n".join(details))
        return orjson.dumps(fields).decode()


def _details(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return what follows the message: an exception, a stack."""
    details = [formatter.formatException(record.exc_info)] if record.exc_info else []
    return [*details, record.stack_info] if record.stack_info else details


def configure(level: str, form: str, *, secrets: Iterable[str] = ()) -> None:
    """Send everything to stderr, as *form* (console or json), from *level* up.

    :param secrets: never written, in whichever record they are
    """
    mask = masking(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(mask) if form == "json" else _Console(mask))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
