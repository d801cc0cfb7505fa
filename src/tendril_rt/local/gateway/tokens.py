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

    MALFORMED = auto()
    BAD_SIGNATURE = auto()
    EXPIRED = auto()
    BAD_CLAIM = auto()


class TokenError(TendrilError):
    """A token is refused; ``str()`` is what PostgREST says, *details* its second line.

    :ivar claims: those of an expired token, else None
    """

    code = "TOKEN_REFUSED"

    def __init__(self, reason: Reason, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = details
        self.claims: Claims | None = None


def sign(claims: Claims, secret: str) -> str:
    """Return a token with *claims*."""
    return jwt.encode(dict(claims), secret, algorithm="HS256")


def verify(token: str, secret: str, *, skew_s: float = _SKEW_S) -> Claims:
    """Return the claims of *token*. A missing ``role`` or ``exp`` is not an error here.

    :param skew_s: how long past ``exp`` (or before ``nbf`` and ``iat``) it is still taken
    :raises TokenError: garbage, forged, expired or not yet valid
    """
    if not token:
        raise TokenError(Reason.MALFORMED, "Empty JWT is sent in Authorization header")
    if (parts := token.count(".") + 1) != 3:
        raise TokenError(Reason.MALFORMED, f"Expected 3 parts in JWT; got {parts}")
    try:
        claims = orjson.loads(jwt.api_jws.decode(token, secret, algorithms=["HS256"]))
    except jwt.InvalidSignatureError as exc:
        details = "None of the keys was able to decode the JWT"
        raise TokenError(Reason.BAD_SIGNATURE, _NO_KEY, details) from exc
    except jwt.InvalidAlgorithmError as exc:
        message, details = _NO_KEY, "No suitable key was found to decode the JWT"
        if jwt.get_unverified_header(token).get("alg") == "none":
            message = "Wrong or unsupported encoding algorithm"
            details = "JWT is unsecured but expected 'alg' was not 'none'"
        raise TokenError(Reason.MALFORMED, message, details) from exc
    except jwt.InvalidTokenError as exc:
        raise TokenError(Reason.MALFORMED, "JWT cryptographic operation failed") from exc
    except orjson.JSONDecodeError:
        claims = None
    if not isinstance(claims, dict):
        raise TokenError(Reason.MALFORMED, "Parsing claims failed")
    _check_times(claims, skew_s)
    return claims


def _check_times(claims: Claims, skew_s: float) -> None:
    now = int(time.time())
    for name, sign_, reason, message in (
        ("exp", -1, Reason.EXPIRED, "JWT expired"),
        ("nbf", 1, Reason.BAD_CLAIM, "JWT not yet valid"),
        ("iat", 1, Reason.BAD_CLAIM, "JWT issued at future"),
    ):
        at = claims.get(name)
        if isinstance(at, bool) or not isinstance(at, int | float | None):
            raise TokenError(Reason.BAD_CLAIM, f"The JWT '{name}' claim must be a number")
        if at is not None and (at - now) * sign_ > skew_s:
            error = TokenError(reason, message)
            error.claims = claims
            raise error
