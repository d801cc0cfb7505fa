"""What PostgREST says when it says no: statuses, codes and headers of its errors.

Owns the map from SQLSTATE to HTTP. Must never let a database's message reach the status line with a
line break in it (the real one does: that is a way to inject headers).
"""

from collections.abc import Mapping

import orjson
import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout

from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway.tokens import Reason, TokenError

#: By SQLSTATE, then by its class (the first two characters), then 400.
_STATUS = {
    **dict.fromkeys(("08", "53", "57P01"), 503),
    **dict.fromkeys(("0L", "0P", "28"), 403),
    **dict.fromkeys(("23503", "23505"), 409),
    **dict.fromkeys(("42883", "42P01"), 404),
    **dict.fromkeys(("22023", "P0001"), 400),
    **dict.fromkeys(("25006",), 405),
    **dict.fromkeys(("09", "21", "25", "2D", "38", "39", "3B", "40", "42P17", "53400"), 500),
    **dict.fromkeys(("54", "55", "57", "58", "F0", "HV", "P0", "XX"), 500),
}


class Refused(TendrilError):
    """A request is refused with the answer that this describes."""

    code = "REFUSED"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: str | None = None,
        hint: str | None = None,
        *,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})
        self.content = {"code": code, "message": message, "details": details, "hint": hint}

    def body(self) -> bytes:
        """Return the error as PostgREST writes it."""
        return orjson.dumps(self.content)

    def response(self) -> web.Response:
        """Return the whole answer."""
        headers = {"Proxy-Status": f"PostgREST; error={self.content['code']}", **self.headers}
        if self.status == 503:
            headers["Retry-After"] = "0"
        reason = None if self.reason is None else " ".join(self.reason.split())
        return web.Response(
            body=self.body(),
            status=self.status,
            reason=reason,
            headers=headers,
            content_type="application/json",
            charset="utf-8",
        )


def not_offered(feature: str) -> Refused:
    """Return the refusal of what PostgREST can do and the embedded control plane cannot."""
    return Refused(
        501,
        "TENDRIL501",
        f"The embedded control plane does not offer {feature}",
        hint="It speaks the part of PostgREST that its clients use; Supabase speaks all of it",
    )


def from_token(error: TokenError) -> Refused:
    """Return the 401 for a refused token."""
    times = (Reason.EXPIRED, Reason.NOT_YET_VALID, Reason.BAD_CLAIM)
    challenge = f'Bearer error="invalid_token", error_description="{error}"'
    return Refused(
        401,
        "PGRST303" if error.reason in times else "PGRST301",
        str(error),
        error.details,
        headers={"WWW-Authenticate": challenge},
    )


def from_postgres(error: psycopg.Error | PoolTimeout, *, is_anonymous: bool) -> Refused:
    """Return the refusal for an error of the database, raised by a function or by itself."""
    if isinstance(error, PoolTimeout):
        return Refused(504, "PGRST003", "Timed out acquiring connection from connection pool.")
    code, diag = error.sqlstate, error.diag
    if code is None and not isinstance(error, psycopg.OperationalError):
        return Refused(400, "22021", str(error))  # the client library would not send it: a NUL
    if code is None:
        message = "Database client error. Retrying the connection."
        return Refused(503, "PGRST001", message, str(error))
    message = diag.message_primary or str(error)
    if code == "PGRST":
        return _raised(message, diag.message_detail)
    status = _status(code, message, is_anonymous=is_anonymous)
    return Refused(
        status,
        code,
        message,
        diag.message_detail,
        diag.message_hint,
        reason=message if code.startswith("PT") else None,
        headers={"WWW-Authenticate": "Bearer"} if status == 401 else None,
    )


def _status(code: str, message: str, *, is_anonymous: bool) -> int:
    if code.startswith("PT"):
        return int(code[2:]) if code[2:].isdecimal() else 500
    if code == "42501":
        return 401 if is_anonymous else 403
    if code == "22023" and message.startswith("role") and message.endswith("does not exist"):
        return 401
    return _STATUS.get(code) or _STATUS.get(code[:2], 400)


def _raised(message: str, detail: str | None) -> Refused:
    """Return what a function asked for with RAISE SQLSTATE 'PGRST'."""
    try:
        said = orjson.loads(message)
        content = [said["code"], said["message"], said.get("details"), said.get("hint")]
    except (AttributeError, KeyError, TypeError, ValueError):
        return _unreadable(f"Invalid JSON value for MESSAGE: '{message}'", _MESSAGE_HINT)
    if detail is None:
        return _unreadable("DETAIL is missing in the RAISE statement", _DETAIL_HINT)
    try:
        asked = orjson.loads(detail)
        status, text = int(asked["status"]), asked.get("status_text")
        headers = {name: str(value) for name, value in asked["headers"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):  # bad JSON is a ValueError
        return _unreadable(f"Invalid JSON value for DETAIL: '{detail}'", _DETAIL_HINT)
    return Refused(status, *content, reason=text, headers=headers)


_MESSAGE_HINT = (
    "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: "
    "'details', 'hint'."
)
_DETAIL_HINT = (
    "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: "
    "'status_text'."
)


def _unreadable(details: str, hint: str) -> Refused:
    message = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"
    return Refused(500, "PGRST121", message, details, hint)
