"""Supabase Auth: a person signs in, stays signed in, signs out. The only module that speaks to it.

Over httpx rather than ``supabase_auth``: that client starts timers, keeps the session to itself and
renews it behind our back, while ours is shared by every ``grape`` of a user. Never retries: a
refresh token is good once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
import httpx
import orjson

from tendril_rt.errors import Unauthorized, Unavailable

_TIMEOUT_S = 15.0
_MAX_SAID = 200


@dataclass(frozen=True, slots=True)
class Session:
    """What signing in gives.

    :ivar life_s: how long *access_token* is good from now on, in seconds
    :ivar refresh_token: good for one :func:`renew`
    """

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    life_s: int
    user_id: str
    email: str


async def sign_in(url: str, api_key: str, email: str, password: str) -> Session:
    """Open a session.

    :param url: base URL of the project
    :raises Unauthorized: refused, with the reason
    :raises Unavailable: no answer, or one that is not Auth's
    """
    body = {"email": email, "password": password}
    return _session(await _post(url, api_key, "token?grant_type=password", body))


async def renew(url: str, api_key: str, refresh_token: str) -> Session:
    """Exchange *refresh_token* for a fresh session. Raises as :func:`sign_in` does.

    Cancellation: unsafe, the token may be used up and the answer lost: shield this.
    """
    body = {"refresh_token": refresh_token}
    return _session(await _post(url, api_key, "token?grant_type=refresh_token", body))


async def sign_out(url: str, api_key: str, access_token: str) -> None:
    """End the session that *access_token* is of. Raises as :func:`sign_in` does."""
    await _post(url, api_key, "logout?scope=local", {}, token=access_token)


async def _post(
    url: str, api_key: str, path: str, body: Mapping[str, str], *, token: str | None = None
) -> object:
    headers = {"apikey": api_key, "Authorization": f"Bearer {token or api_key}"}
    headers["X-Supabase-Api-Version"] = "2024-01-01"
    host = httpx.URL(url).netloc.decode()
    try:
        with anyio.fail_after(_TIMEOUT_S):
            async with httpx.AsyncClient(
                timeout=_TIMEOUT_S, mounts={"all://127.0.0.1": None, "all://localhost": None}
            ) as http:
                answer = await http.post(f"{url}/auth/v1/{path}", json=body, headers=headers)
    except (httpx.RequestError, TimeoutError) as exc:
        raise Unavailable(
            f"no answer from {host}: {type(exc).__name__} {exc}. Check the URL, DNS, the proxy and "
            "the firewall (outbound HTTPS)"
        ) from exc
    if answer.status_code == httpx.codes.NO_CONTENT:
        return None
    try:
        said = orjson.loads(answer.content)
    except orjson.JSONDecodeError as exc:
        raise _not_auth(host, f"{answer.status_code} without JSON") from exc
    if answer.is_success:
        return said
    if answer.status_code >= 500 or answer.status_code == 429 or not isinstance(said, dict):
        raise _not_auth(host, str(answer.status_code))
    why = said.get("message") or said.get("msg") or said.get("error_description") or "refused"
    raise Unauthorized(" ".join(str(why)[:_MAX_SAID].split()))


def _session(said: object) -> Session:
    match said:
        case {
            "access_token": str(access),
            "refresh_token": str(refresh),
            "expires_in": int(life_s),
            "user": {"id": str(user_id), **user},
        }:
            return Session(access, refresh, life_s, user_id, str(user.get("email") or user_id))
    raise Unavailable("Auth answered no session: is the URL that of a Supabase project?")


def _not_auth(host: str, what: str) -> Unavailable:
    return Unavailable(
        f"{host} answered {what}: is it the control plane, or does a proxy stand in between?"
    )
