"""What PostgREST says when it says no: statuses, codes and headers of its errors.

Owns the map from SQLSTATE to HTTP. Must never let a database's message reach the status line with a
line break in it (the real one does: that is a way to inject headers).
"""

from collections.abc import Mapping

import orjson
import psycopg
from aiohttp import web

from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway.tokens import Reason, TokenError

#: By SQLSTATE, then by its class (the first two characters), then 400.
_STATUS = {
    **dict.fromkeys(("08", "53", "57P01"), 503),
    **dict.fromkeys(("0L", "0P", "28", "42501"), 403),
    **dict.fromkeys(("23503", "23505"), 409),
    **dict.fromkeys(("42883", "42P01"), 404),
    **dict.fromkeys(("22023", "P0001"), 400),
    **dict.fromkeys(("25006",), 405),
    **dict.fromkeys(("09", "21", "25", "2D", "38", "39", "3B", "40", "42P17", "53400"), 500),
    **dict.fromkeys(("54", "55", "57", "58", "F0", "HV", "P0", "PT", "XX"), 500),
}
_MESSAGE_HINT = (
    "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: "
    "'details', 'hint'."
)
_DETAIL_HINT = (
    "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: "
    "'status_text'."
)


class Refused(TendrilError):
    """A request is refused with *response*."""

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
        self.response = web.Response(
            body=orjson.dumps({"code": code, "message": message, "details": details, "hint": hint}),
            status=status,
            reason=reason and " ".join(reason.split()),
            headers={"Proxy-Status": f"PostgREST; error={code}", **(headers or {})},
            content_type="application/json",
            charset="utf-8",
        )
        if status == 503:
            self.response.headers["Retry-After"] = "0"


def not_offered(feature: str) -> Refused:
    """Return the refusal of what PostgREST can do and the embedded control plane cannot."""
    message = f"The embedded control plane does not offer {feature}"
    hint = "It speaks the part of PostgREST that its clients use; Supabase speaks all of it"
    return Refused(501, "TENDRIL501", message, hint=hint)


def from_token(error: TokenError) -> Refused:
    """Return the 401 for a refused token."""
    code = "PGRST303" if error.reason in (Reason.EXPIRED, Reason.BAD_CLAIM) else "PGRST301"
    challenge = f'Bearer error="invalid_token", error_description="{error}"'
    return Refused(401, code, str(error), error.details, headers={"WWW-Authenticate": challenge})


def from_postgres(error: psycopg.Error, *, is_anonymous: bool) -> Refused:
    """Return the refusal for an error of the database, raised by a function or by itself."""
    code, diag = error.sqlstate, error.diag
    if code is None and isinstance(error, psycopg.OperationalError):
        message = "Database client error. Retrying the connection."
        return Refused(503, "PGRST001", message, str(error))
    if code is None:
        return Refused(400, "22021", str(error))  # the client library would not send it: a NUL
    message, details = diag.message_primary or str(error), diag.message_detail
    if code == "PGRST":
        return _raised(message, details)
    status = _STATUS.get(code) or _STATUS.get(code[:2], 400)
    is_role_unknown = code == "22023" and message.startswith('role "')
    if code.startswith("PT") and code[2:].isdecimal():
        status = int(code[2:])
    elif is_role_unknown or (code == "42501" and is_anonymous):
        status = 401
    reason = message if code.startswith("PT") else None
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Refused(
        status, code, message, details, diag.message_hint, reason=reason, headers=headers
    )


def _raised(message: str, detail: str | None) -> Refused:
    """Return what a function asked for with RAISE SQLSTATE 'PGRST'."""
    fault, hint = f"Invalid JSON value for MESSAGE: '{message}'", _MESSAGE_HINT
    try:
        said = orjson.loads(message)
        content = [said["code"], said["message"], said.get("details"), said.get("hint")]
        fault, hint = f"Invalid JSON value for DETAIL: '{detail}'", _DETAIL_HINT
        if detail is None:
            fault = "DETAIL is missing in the RAISE statement"
        asked = orjson.loads(detail or "")
        status, reason = int(asked["status"]), asked.get("status_text")
        headers = {name: str(value) for name, value in asked["headers"].items()}
    except (AttributeError, KeyError, TypeError, ValueError):  # bad JSON is a ValueError
        text = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"
        return Refused(500, "PGRST121", text, fault, hint)
    return Refused(status, *content, reason=reason, headers=headers)
