"""Which values may not show up in a log: gathered from what an attempt is given.

Pure. What counts is the name of a variable or setting, the snapshot's own list, and passwords in
URLs. How the values are then found in output is the business of ``logs/redact.py``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from urllib.parse import unquote, urlsplit

from tendril_rt.model import Snapshot

_CREDENTIALS = (
    *("*TOKEN", "*SECRET", "*_SECRET_*", "*SECRET_ACCESS_KEY", "*_KEY", "*APIKEY"),
    *("*PASSWORD", "*PASSWORD_*", "*PASSWD", "*PASSPHRASE", "*CREDENTIALS"),
)
_CREDENTIAL = re.compile("|".join(map(translate, _CREDENTIALS)))  # at once: a run waits for it


def confidential_values(
    environ: Mapping[str, str], snapshot: Snapshot | None = None
) -> frozenset[bytes]:
    """Return the values of credentials in *environ*, and all that *snapshot* wants kept."""
    found = set(_credentials(environ))
    if snapshot is not None:
        found.update(_credentials(snapshot.backend_config))
        found.update(_password_of(snapshot.template.repo))
        found.update(snapshot.sensitive_values())
    return frozenset(value.encode("utf-8", errors="surrogateescape") for value in found)


def _credentials(named: Mapping[str, str]) -> Iterator[str]:
    for name, value in named.items():
        if _CREDENTIAL.match(name.upper()):
            yield value
        yield from _password_of(value)


def _password_of(text: str) -> Iterable[str]:
    """Return the secret part of a URL: the password, or a user name that stands for one."""
    if "://" not in text or "@" not in text:
        return ()
    try:
        parts = urlsplit(text)
    except ValueError:  # not a URL after all
        return ()
    secret = parts.username if parts.password is None else parts.password
    return (secret, unquote(secret)) if secret else ()


def redacted(value: object, redact_text: Callable[[str], str]) -> object:
    """Return a JSON value whose texts are redacted; a number that is a secret becomes text."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        shown = redact_text(str(value))
        return value if shown == str(value) else shown
    if isinstance(value, dict):
        return {key: redacted(item, redact_text) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, redact_text) for item in value]
    return value
