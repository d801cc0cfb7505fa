"""The stand-in for Supabase Auth: signing in with a password, renewing a session, signing out.

Owns no state: users and sessions are rows (``sql/embedded/auth.sql``). Access tokens are JWTs of
role ``authenticated``, signed with the project's secret, so PostgREST and Realtime take them as
they take Supabase's. Refresh tokens are good once: a second use ends the session. Shapes and error
codes are those of the API version 2024-01-01, which supabase-js 2 and supabase-py ask for. Must
never log a request: passwords and tokens are in it.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import orjson
import psycopg
from aiohttp import web

from tendril_rt.errors import TendrilError
from tendril_rt.local import users
from tendril_rt.local.gateway import tokens

PREFIX = "/auth/v1/"
VERSION_HEADER = "X-Supabase-Api-Version"

_VERSION = "2024-01-01"
_CONNECT_S = 5
_TOKEN_BYTES = 24
_MIN_PASSWORD = 6  # characters, as Supabase's default
_MAX_PASSWORD = 72

_Handler = Callable[[web.Request], Awaitable[web.Response]]


class _Refused(TendrilError):
    """A request is refused; *code* is one of Auth's, for programs."""

    code = "AUTH_REFUSED"

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_code = code


class Auth:
    """Answers the requests below ``/auth/v1/``.

    :param admin_url: libpq URL of the owner of schema ``auth``
    :param token_life_s: how long an access token is good, in seconds
    """

    def __init__(self, admin_url: str, jwt_secret: str, *, token_life_s: int) -> None:
        self._admin_url = admin_url
        self._jwt_secret = jwt_secret
        self._token_life_s = token_life_s
        self._handlers: Mapping[tuple[str, str], _Handler] = {
            ("POST", "token"): self._token,
            ("POST", "verify"): self._verify,
            ("GET", "user"): self._user,
            ("POST", "logout"): self._logout,
            ("POST", "otp"): self._otp,
            ("POST", "admin/users"): self._add_user,
        }

    async def handle(self, request: web.Request) -> web.Response:
        """Answer *request*; a refusal is an answer too."""
        handler = self._handlers.get((request.method, request.match_info["tail"]), _not_offered)
        try:
            return await handler(request)
        except _Refused as refused:
            body: dict[str, object] = {"code": refused.error_code, "message": str(refused)}
            if refused.error_code == "weak_password":  # clients look into it
                body["weak_password"] = {"reasons": ["length"]}
            return _json(body, refused.status, headers={VERSION_HEADER: _VERSION})
        except psycopg.OperationalError:
            body = {"code": "unexpected_failure", "message": "the database does not answer"}
            return _json(body, 503, headers={VERSION_HEADER: _VERSION, "Retry-After": "1"})

    async def _token(self, request: web.Request) -> web.Response:
        body = await _object_in(request)
        match request.query.get("grant_type"):
            case "password":
                return _json(await self._sign_in(_text(body, "email"), _text(body, "password")))
            case "refresh_token":
                return _json(await self._renew(_text(body, "refresh_token")))
            case other:
                raise _Refused(400, "validation_failed", f"no grant_type {other!r} here")

    async def _sign_in(self, email: str, password: str) -> dict[str, object]:
        found = await self._call("find_user", p_email=email)
        user = found if isinstance(found, dict) else {}
        if not await users.matches(password, user.get("password_hash")):
            raise _Refused(400, "invalid_credentials", "Invalid login credentials")
        return await self._open(user["id"])

    async def _verify(self, request: web.Request) -> web.Response:
        """Sign in by a code that is good once (:func:`users.one_time_code`)."""
        body = await _object_in(request)
        digest = users.digest(_text(body, "token_hash"))
        user_id = await self._call("use_code", p_digest=digest)
        if user_id is None:
            raise _Refused(403, "otp_expired", "Email link is invalid or has expired")
        return _json(await self._open(user_id))

    async def _open(self, user_id: object) -> dict[str, object]:
        refresh_token = secrets.token_urlsafe(_TOKEN_BYTES)
        opened = await self._call(
            "open_session", p_user_id=user_id, p_digest=users.digest(refresh_token)
        )
        return self._session(opened, refresh_token)

    async def _renew(self, refresh_token: str) -> dict[str, object]:
        fresh = secrets.token_urlsafe(_TOKEN_BYTES)
        renewed = await self._call(
            "renew_session", p_digest=users.digest(refresh_token), p_fresh=users.digest(fresh)
        )
        match renewed:
            case {"refused": "refresh_token_already_used" as code}:
                raise _Refused(400, code, "Invalid Refresh Token: Already Used")
            case {"refused": str(code)}:
                raise _Refused(400, code, "Invalid Refresh Token: Refresh Token Not Found")
        return self._session(renewed, fresh)

    def _session(self, opened: object, refresh_token: str) -> dict[str, object]:
        assert isinstance(opened, dict)  # noqa: S101 - a function of ours
        user, now = opened["user"], int(time.time())
        claims = {
            "iss": "tendril-dev",
            "aud": "authenticated",
            "role": "authenticated",
            "sub": user["id"],
            "email": user["email"],
            "session_id": opened["session_id"],
            "app_metadata": user["app_metadata"],
            "user_metadata": user["user_metadata"],
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "is_anonymous": False,
            "iat": now,
            "exp": now + self._token_life_s,
            "jti": secrets.token_hex(8),  # two of one second differ
        }
        return {
            "access_token": tokens.sign(claims, self._jwt_secret),
            "token_type": "bearer",
            "expires_in": self._token_life_s,
            "expires_at": now + self._token_life_s,
            "refresh_token": refresh_token,
            "user": user,
        }

    async def _user(self, request: web.Request) -> web.Response:
        _, user = await self._signed_in(request)
        return _json(user)

    async def _logout(self, request: web.Request) -> web.Response:
        scope = request.query.get("scope", "global")
        if scope not in ("global", "local", "others"):
            raise _Refused(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        claims, _ = await self._signed_in(request)
        await self._call(
            "close_sessions",
            p_user_id=claims["sub"],
            p_session_id=claims.get("session_id"),
            p_scope=scope,
        )
        return web.Response(status=204)

    async def _otp(self, request: web.Request) -> web.Response:
        raise _Refused(
            422, "otp_disabled", "the embedded control plane sends no mail: use a password"
        )

    async def _add_user(self, request: web.Request) -> web.Response:
        """What ``auth.admin.create_user`` of the clients calls, for tools with the service key."""
        if self._claims(request).get("role") != "service_role":
            raise _Refused(403, "not_admin", "User not allowed: this needs the service_role key")
        body = await _object_in(request)
        email, password = _text(body, "email").lower(), _text(body, "password")
        if not 3 <= len(email) <= 254 or "@" not in email:
            raise _Refused(400, "validation_failed", f"{email!r} is not an e-mail address")
        if not _MIN_PASSWORD <= len(password.encode()) <= _MAX_PASSWORD:
            raise _Refused(
                422,
                "weak_password",
                f"a password has {_MIN_PASSWORD} to {_MAX_PASSWORD} bytes",
            )
        added = await self._call(
            "add_user", p_email=email, p_password_hash=await users.hashed(password)
        )
        if added is None:
            raise _Refused(
                422, "email_exists", "A user with this email address has already been registered"
            )
        return _json(added)

    async def _signed_in(self, request: web.Request) -> tuple[tokens.Claims, object]:
        """Return the claims of the caller, and the user."""
        claims = self._claims(request)
        if "sub" not in claims:
            raise _Refused(403, "bad_jwt", "invalid claim: missing sub claim")
        user = await self._call(
            "user_of", p_user_id=claims["sub"], p_session_id=claims.get("session_id")
        )
        if user is None:
            raise _Refused(
                403, "session_not_found", "Session from session_id claim in JWT does not exist"
            )
        return claims, user

    def _claims(self, request: web.Request) -> tokens.Claims:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise _Refused(401, "no_authorization", "This endpoint requires a Bearer token")
        try:
            return tokens.verify(token.strip(), self._jwt_secret, skew_s=0)
        except tokens.TokenError as exc:
            raise _Refused(403, "bad_jwt", f"invalid JWT: {exc}") from exc

    async def _call(self, function: str, **arguments: object) -> object:
        # A connection each: people sign in seldom, and none is kept that could go stale.
        async with await psycopg.AsyncConnection.connect(
            self._admin_url, autocommit=True, connect_timeout=_CONNECT_S
        ) as connection:
            return await users.call(connection, function, **arguments)


async def _not_offered(request: web.Request) -> web.Response:
    # Not a 5xx: clients would take it for an outage, and try again.
    raise _Refused(
        404,
        "not_offered",
        f"The embedded control plane does not offer {request.method} {request.path}: sign in with "
        "a password; further users are made by 'tendril dev --user'. Supabase offers all of Auth",
    )


async def _object_in(request: web.Request) -> Mapping[str, object]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as exc:
        raise _Refused(400, "bad_json", "Could not parse request body as JSON") from exc
    if not isinstance(body, dict):
        raise _Refused(400, "bad_json", "The request body is not a JSON object")
    return body


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise _Refused(400, "validation_failed", f"{name} is missing, or not a text")
    return value


def _json(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        content_type="application/json",
    )
