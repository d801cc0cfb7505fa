"""The users of the embedded plane: who they are, and their passwords.

Passwords are stored as scrypt hashes alone. The first password of each user who is made here
follows from the folder's JWT secret, so no list of passwords is kept, and it outlives a restart.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

import anyio.to_thread
import psycopg
from psycopg.rows import scalar_row
from psycopg.sql import SQL, Identifier, Placeholder

#: scrypt's cost: 16 MiB and some 50 ms a guess (RFC 7914, section 2, for interactive use).
_N, _R, _P = 2**14, 8, 1
_SALT_BYTES, _KEY_BYTES = 16, 32
_CODE_BYTES = 24
_ALPHABET_BYTES = 10  # 80 bits, 16 letters


@dataclass(frozen=True)
class User:
    """A user who can sign in here."""

    email: str
    password: str = field(repr=False)


def first_password(jwt_secret: str, email: str) -> str:
    """Return the password that *email* is made with; pure."""
    digest = hmac.digest(jwt_secret.encode(), f"user {email.lower()}".encode(), "sha256")
    letters = base64.b32encode(digest[:_ALPHABET_BYTES]).decode().lower()
    return "-".join(letters[at : at + 4] for at in range(0, len(letters), 4))


def digest(token: str) -> bytes:
    """Return what is stored of a token or a code, which themselves are stored nowhere; pure."""
    return hashlib.sha256(token.encode()).digest()


async def one_time_code(connection: psycopg.AsyncConnection[object], email: str) -> str:
    """Make a code that signs *email* in once, while this plane runs; the ones before are void."""
    code = secrets.token_urlsafe(_CODE_BYTES)
    await call(connection, "add_code", p_email=email, p_digest=digest(code))
    return code


async def hashed(password: str) -> str:
    """Return what to store of *password*: ``salt$hash``, each in base64."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key = await anyio.to_thread.run_sync(_scrypt, password, salt)
    return "$".join(base64.b64encode(part).decode() for part in (salt, key))


async def matches(password: str, password_hash: str | None) -> bool:
    """Tell whether *password* is the one; as slow where there is no such user (None)."""
    salt, key = map(base64.b64decode, (password_hash or "$").split("$"))
    found = await anyio.to_thread.run_sync(_scrypt, password, salt)
    return hmac.compare_digest(found, key)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=_N, r=_R, p=_P, dklen=_KEY_BYTES)


async def call(
    connection: psycopg.AsyncConnection[object], function: str, **arguments: object
) -> object:
    """Return what a function of ``sql/embedded/auth.sql`` answers."""
    named = SQL(", ").join(
        SQL("{} => {}").format(Identifier(name), Placeholder(name)) for name in arguments
    )
    statement = SQL("select auth.{}({})").format(Identifier(function), named)
    async with connection.cursor(row_factory=scalar_row) as cursor:
        return await (await cursor.execute(statement, arguments)).fetchone()


async def ensure(
    connection: psycopg.AsyncConnection[object],
    jwt_secret: str,
    emails: Iterable[str],
    *,
    owner_id: str,
) -> tuple[User, ...]:
    """Make who is not there yet; return all with their first passwords.

    :param emails: the first of them is the owner, whose id is *owner_id*
    """
    users = []
    for index, email in enumerate(dict.fromkeys(email.lower() for email in emails)):
        user = User(email, first_password(jwt_secret, email))
        await call(
            connection,
            "add_user",
            p_email=user.email,
            p_password_hash=await hashed(user.password),
            p_id=None if index else owner_id,
        )
        users.append(user)
    return tuple(users)
