"""The stand-in for Supabase Auth against ``supabase_auth``, the client of supabase-py."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import jwt
import psycopg
import pytest
from supabase_auth import AsyncGoTrueClient
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError
from supabase_auth.types import Session

from tests.conftest import RunningPlane

pytestmark = pytest.mark.conformance


@asynccontextmanager
async def _client(plane: RunningPlane, key: str | None = None) -> AsyncIterator[AsyncGoTrueClient]:
    key = key or plane.anon_key
    async with AsyncGoTrueClient(
        url=f"{plane.url}/auth/v1",
        headers={"apikey": key, "Authorization": f"Bearer {key}"},
        auto_refresh_token=False,
        persist_session=False,
    ) as client:
        yield client


async def _sign_in(client: AsyncGoTrueClient, plane: RunningPlane) -> Session:
    answer = await client.sign_in_with_password(
        {"email": plane.users[0]["email"], "password": plane.users[0]["password"]}
    )
    assert answer.session is not None
    return answer.session


async def test_who_signs_in_is_taken_by_the_rest_of_the_plane(plane: RunningPlane) -> None:
    async with _client(plane) as client, httpx.AsyncClient() as http:
        session = await _sign_in(client, plane)
        registered = await http.post(
            f"{plane.url}/rest/v1/rpc/register_cluster",
            headers={
                "apikey": plane.anon_key,
                "authorization": f"Bearer {session.access_token}",
            },
            json={"p_name": "signed in"},
        )
        found = await client.get_user(session.access_token)
    claims = jwt.decode(session.access_token, options={"verify_signature": False})
    dev_claims = jwt.decode(plane.user_token, options={"verify_signature": False})
    assert registered.status_code == 200, registered.text
    assert found is not None
    assert found.user.email == plane.users[0]["email"]
    assert (claims["role"], claims["sub"]) == ("authenticated", dev_claims["sub"])
    assert claims["exp"] - claims["iat"] == session.expires_in == 3600
    assert session.expires_at == claims["exp"]
    assert session.user.identities


@pytest.mark.parametrize(
    ("email", "password"),
    [("owner@example.com", "wrong"), ("nobody@example.com", "wrong"), ("OWNER@example.com", "x")],
)
async def test_wrong_credentials_are_all_refused_alike(
    plane: RunningPlane, email: str, password: str
) -> None:
    async with _client(plane) as client:
        with pytest.raises(AuthApiError, match="Invalid login credentials") as refused:
            await client.sign_in_with_password({"email": email, "password": password})
    assert (refused.value.status, refused.value.code) == (400, "invalid_credentials")


async def test_a_refresh_token_is_good_once_and_a_second_use_ends_the_session(
    plane: RunningPlane,
) -> None:
    async with _client(plane) as client:
        first = await _sign_in(client, plane)
        second = (await client.refresh_session(first.refresh_token)).session
        assert second is not None
        assert second.refresh_token != first.refresh_token
        assert second.access_token != first.access_token
        with pytest.raises(AuthApiError, match="Already Used") as reused:
            await client.refresh_session(first.refresh_token)
        with pytest.raises(AuthApiError, match="Not Found") as ended:
            await client.refresh_session(second.refresh_token)
        with pytest.raises(AuthApiError, match="does not exist"):
            await client.get_user(second.access_token)
    assert str(reused.value.code) == "refresh_token_already_used"
    assert str(ended.value.code) == "refresh_token_not_found"


async def test_of_two_who_renew_at_once_one_wins(plane: RunningPlane) -> None:
    async with _client(plane) as client:
        session = await _sign_in(client, plane)
        answers = await asyncio.gather(
            *(client.refresh_session(session.refresh_token) for _ in range(4)),
            return_exceptions=True,
        )
    refused = [answer for answer in answers if isinstance(answer, AuthApiError)]
    assert len(refused) == 3, answers


async def test_signing_out_ends_the_session_of_that_scope(plane: RunningPlane) -> None:
    async with _client(plane) as client:
        here, there = await _sign_in(client, plane), await _sign_in(client, plane)
        await client.admin.sign_out(here.access_token, "local")
        with pytest.raises(AuthApiError, match="Not Found"):
            await client.refresh_session(here.refresh_token)
        renewed = (await client.refresh_session(there.refresh_token)).session
        assert renewed is not None
        await client.admin.sign_out(renewed.access_token, "global")
        with pytest.raises(AuthApiError, match="Not Found"):
            await client.refresh_session(renewed.refresh_token)


async def test_no_mail_is_sent_and_that_is_said(plane: RunningPlane) -> None:
    async with _client(plane) as client:
        with pytest.raises(AuthApiError, match="sends no mail: use a password") as refused:
            await client.sign_in_with_otp({"email": "owner@example.com"})
        with pytest.raises(AuthApiError, match="does not offer POST /auth/v1/signup"):
            await client.sign_up({"email": "new@example.com", "password": "long enough"})
    assert refused.value.code == "otp_disabled"


async def test_users_are_made_with_the_service_key_alone(plane: RunningPlane) -> None:
    email, password = f"{uuid.uuid4().hex}@example.com", "correct horse"
    async with _client(plane) as client:
        with pytest.raises(AuthApiError, match="service_role"):
            await client.admin.create_user({"email": email, "password": password})
    async with _client(plane, plane.service_role_key) as service:
        made = await service.admin.create_user({"email": email.upper(), "password": password})
        with pytest.raises(AuthApiError, match="already been registered"):
            await service.admin.create_user({"email": email, "password": password})
        with pytest.raises(AuthWeakPasswordError, match="a password has"):
            await service.admin.create_user({"email": f"x{email}", "password": "short"})
        signed_in = await service.sign_in_with_password({"email": email, "password": password})
    assert signed_in.user is not None
    assert signed_in.user.id == made.user.id


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("token?grant_type=password", b"{", "bad_json"),
        ("token?grant_type=password", b"[]", "bad_json"),
        ("token?grant_type=password", b'{"email": 1, "password": "x"}', "validation_failed"),
        (
            "token?grant_type=password",
            b'{"email": "a\\u0000b", "password": "x"}',
            "validation_failed",
        ),
        ("token?grant_type=pkce", b"{}", "validation_failed"),
        ("token", b"{}", "validation_failed"),
        ("token?grant_type=refresh_token", b"{}", "validation_failed"),
    ],
)
async def test_what_is_no_request_is_refused(
    plane: RunningPlane, path: str, body: bytes, code: str
) -> None:
    async with httpx.AsyncClient(headers={"apikey": plane.anon_key}) as http:
        answer = await http.post(f"{plane.url}/auth/v1/{path}", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["x-supabase-api-version"] == "2024-01-01"


async def test_a_token_that_nobody_signed_or_without_a_user_is_refused(plane: RunningPlane) -> None:
    forged = jwt.encode({"sub": str(uuid.uuid4()), "role": "authenticated"}, "x" * 32)
    async with httpx.AsyncClient(headers={"apikey": plane.anon_key}) as http:
        by_forgery = await http.get(
            f"{plane.url}/auth/v1/user", headers={"authorization": f"Bearer {forged}"}
        )
        by_key = await http.get(f"{plane.url}/auth/v1/user")
        without_key = await http.get(f"{plane.url}/auth/v1/user", headers={"apikey": ""})
    assert (by_forgery.status_code, by_forgery.json()["code"]) == (403, "bad_jwt")
    assert (by_key.status_code, by_key.json()["code"]) == (403, "bad_jwt")
    assert without_key.status_code == 401


async def test_a_browser_of_another_origin_may_ask(plane: RunningPlane) -> None:
    async with httpx.AsyncClient() as http:
        asked = await http.options(
            f"{plane.url}/auth/v1/token?grant_type=password",
            headers={
                "origin": "http://localhost:5173",
                "access-control-request-method": "POST",
                "access-control-request-headers": "apikey,authorization,x-supabase-api-version",
            },
        )
        answer = await http.post(
            f"{plane.url}/auth/v1/token?grant_type=password",
            headers={"origin": "http://localhost:5173", "apikey": plane.anon_key},
            json={"email": "owner@example.com", "password": "wrong"},
        )
    assert asked.status_code == 200
    assert "x-supabase-api-version" in asked.headers["access-control-allow-headers"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "X-Supabase-Api-Version" in answer.headers["access-control-expose-headers"]


def test_no_role_of_the_api_reads_users_and_nothing_secret_is_stored(plane: RunningPlane) -> None:
    password = plane.users[0]["password"]
    answer = httpx.post(
        f"{plane.url}/auth/v1/token?grant_type=password",
        headers={"apikey": plane.anon_key},
        json={"email": plane.users[0]["email"], "password": password},
    ).json()
    with psycopg.connect(plane.database_url) as connection:
        for role in ("anon", "authenticated", "service_role"):
            held = connection.execute(
                "select has_schema_privilege(%s, 'auth', 'usage')", (role,)
            ).fetchone()
            assert held == (False,)
        users = connection.execute("select users::text from auth.users").fetchall()
        tokens = connection.execute("select encode(digest, 'hex') from auth.refresh_tokens")
        digests = {digest for (digest,) in tokens}
    assert not any(password in text for (text,) in users)
    assert hashlib.sha256(answer["refresh_token"].encode()).hexdigest() in digests
