"""What the text of a setting may be: each function parses one kind of value. Pure.

All raise :class:`ValueError` with a text that goes on from the variable's name, and never repeat a
secret.
"""

import base64
import ipaddress
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tendril_rt.model import ENDING, ClusterId

#: Two answers may be lost before a lease of 90 s runs out.
_MAX_HEARTBEAT_INTERVAL_S = 40.0
_MIN_POLL_INTERVAL_S = 0.05
_PUBLIC_KEY_BYTES = 32
#: A lease must outlive one lost answer and the retry after it.
_MAX_REQUEST_TIMEOUT_S = 60.0
_MIN_SPOOL_BYTES = 1024 * 1024  # below, a batch on its way would be most of it


def cluster_id(text: str) -> ClusterId:
    try:
        return ClusterId(str(uuid.UUID(text)))
    except ValueError:
        raise ValueError("must be the UUID that registering the cluster printed") from None


def url(text: str) -> str:
    """Return the base URL of a Supabase project without its last slash.

    :raises ValueError: it is none; the text goes on from the variable's name
    """
    wanted = "must be a URL without a path, such as https://<project>.supabase.co"
    try:
        parts = urlsplit(text)
        is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        if parts.scheme in ("http", "https") and parts.hostname and is_bare and parts.port != 0:
            return text.rstrip("/")
    except ValueError as exc:  # a port that is no number, an unclosed bracket
        raise ValueError(f"{wanted} ({exc})") from None
    raise ValueError(wanted)


def secret(text: str) -> str:
    """Return a key or token that can stand in an HTTP header.

    :raises ValueError: it cannot; the text goes on from the variable's name
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without spaces: was it copied whole?")
    return text


def install_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", text):
        raise ValueError(f"must be at most 100 letters, digits, dots, _ and -, not {text!r}")
    return text


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise ValueError(f"must be a number above 0, not {text!r}")
    return value


def poll_interval_s(text: str) -> float:
    value = positive(text)
    if value < _MIN_POLL_INTERVAL_S:
        raise ValueError(f"is {value:g}: less than {_MIN_POLL_INTERVAL_S:g} s would be a flood")
    return value


def request_timeout_s(text: str) -> float:
    value = positive(text)
    if value > _MAX_REQUEST_TIMEOUT_S:
        raise ValueError(
            f"is {value:g}: waiting more than {_MAX_REQUEST_TIMEOUT_S:g} s for one answer would "
            "let leases (90 s) lapse"
        )
    return value


def grace(text: str) -> float:
    value = positive(text)
    if value < ENDING.total_s:
        raise ValueError(
            f"is {value:g}: ending takes up to {ENDING.total_s:g} s ({ENDING}). Raise it together "
            "with terminationGracePeriodSeconds"
        )
    return value


def port_or_off(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(f"must be a port from 1 to 65535, or 0 for none, not {text!r}")
    return int(text)


def ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"must be an IP address to listen on, not {text!r}") from None


def heartbeat_interval_s(text: str) -> float:
    value = positive(text)
    if value > _MAX_HEARTBEAT_INTERVAL_S:
        raise ValueError(
            f"is {value:g}: more than {_MAX_HEARTBEAT_INTERVAL_S:g} s would let leases (90 s) "
            "lapse after one lost answer"
        )
    return value


def count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ValueError(f"must be a whole number from 1, not {text!r}")
    return int(text)


def byte_count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(f"must be a whole number of bytes, not {text!r}")
    return int(text)


def spool_bytes(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < _MIN_SPOOL_BYTES:
        raise ValueError(f"must be a number of bytes from {_MIN_SPOOL_BYTES} (1 MiB), not {text!r}")
    return int(text)


def flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise ValueError(f"must be true or false, not {text!r}") from None


def absolute_path(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {text!r}")
    return path


def public_keys(text: str) -> tuple[bytes, ...]:
    keys = []
    for name in comma_separated(text):
        try:
            key = base64.b64decode(name, validate=True)
        except ValueError:
            key = b""
        if len(key) != _PUBLIC_KEY_BYTES:
            raise ValueError(
                f"must hold base64 of 32 bytes each, as 'grape keygen' prints; {name[:60]!r} is not"
            )
        keys.append(key)
    return tuple(keys)


def comma_separated(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return parse
