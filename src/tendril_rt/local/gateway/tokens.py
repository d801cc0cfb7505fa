"""JSON Web Tokens (HS256), checked as PostgREST checks them; shared by both parts of the gateway.

Owns the answer to "is this token good, and if not, why". The texts are PostgREST's own (recorded);
Realtime words its refusals itself, from the reason. Must never log a token or a secret.
"""

import time
from collections.abc import Mapping
from enum import Enum, auto

import jwt
import orjson

from tendril_rt.errors import TendrilError

Claims = Mapping[str, object]

_NO_KEY = "No suitable key or wrong key type"
_SKEW_S = 30.0  # clocks of issuer and server may differ by this much


class Reason(Enum):
    """Why a token is refused."""

    EMPTY = auto()
    MALFORMED = auto()
    UNSECURED = auto()
    WRONG_ALGORITHM = auto()
    BAD_SIGNATURE = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    BAD_CLAIM = auto()


class TokenError(TendrilError):
    """A token is refused; ``str()`` is what PostgREST says.

    :param claims: those of a token with a good signature (EXPIRED, NOT_YET_VALID), else None
    :param details: PostgREST's second line, where it has one
    """

    code = "TOKEN_REFUSED"

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        details: str | None = None,
        claims: Claims | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details
        self.claims = claims


def sign(claims: Claims, secret: str) -> str:
    """Return a token with *claims*."""
    return jwt.encode(dict(claims), secret, algorithm="HS256")


def verify(token: str, secret: str, *, skew_s: float = _SKEW_S) -> Claims:
    """Return the claims of *token*. A missing ``role`` or ``exp`` is not an error here.

    :param skew_s: how long past ``exp`` (or before ``nbf`` and ``iat``) it is still taken
    :raises TokenError: with the reason; garbage, forged, expired or not yet valid
    """
    _check_form(token)
    try:
        claims = orjson.loads(jwt.api_jws.decode(token, secret, algorithms=["HS256"]))
    except jwt.InvalidSignatureError as exc:
        details = "None of the keys was able to decode the JWT"
        raise TokenError(Reason.BAD_SIGNATURE, _NO_KEY, details=details) from exc
    except (jwt.InvalidTokenError, orjson.JSONDecodeError) as exc:
        raise TokenError(Reason.MALFORMED, "Parsing claims failed") from exc
    if not isinstance(claims, dict):
        raise TokenError(Reason.MALFORMED, "Parsing claims failed")
    _check_times(claims, skew_s)
    return claims


def _check_form(token: str) -> None:
    if not token:
        raise TokenError(Reason.EMPTY, "Empty JWT is sent in Authorization header")
    if (parts := token.count(".") + 1) != 3:
        raise TokenError(Reason.MALFORMED, f"Expected 3 parts in JWT; got {parts}")
    try:
        algorithm = jwt.get_unverified_header(token).get("alg")
    except jwt.InvalidTokenError as exc:
        raise TokenError(Reason.MALFORMED, "JWT cryptographic operation failed") from exc
    if algorithm == "none":
        details = "JWT is unsecured but expected 'alg' was not 'none'"
        message = "Wrong or unsupported encoding algorithm"
        raise TokenError(Reason.UNSECURED, message, details=details)
    if algorithm != "HS256":
        details = "No suitable key was found to decode the JWT"
        raise TokenError(Reason.WRONG_ALGORITHM, _NO_KEY, details=details)


def _check_times(claims: Claims, skew_s: float) -> None:
    now = int(time.time())
    for name, sign_, reason, message in (
        ("exp", -1, Reason.EXPIRED, "JWT expired"),
        ("nbf", 1, Reason.NOT_YET_VALID, "JWT not yet valid"),
        ("iat", 1, Reason.NOT_YET_VALID, "JWT issued at future"),
    ):
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TokenError(Reason.BAD_CLAIM, f"The JWT '{name}' claim must be a number")
        if (value - now) * sign_ > skew_s:
            raise TokenError(reason, message, claims=claims)
