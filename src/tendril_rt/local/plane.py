"""The embedded control plane as a whole: Postgres, Supabase's roles, our migrations, the gateway.

Owns one folder, which holds all there is to keep: the database, its password and the JWT secret.
"""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import psycopg
from psycopg import sql

from tendril_rt import resources
from tendril_rt.local import postgres, users
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.app import GatewayConfig, serving
from tendril_rt.migrate import migrate

#: The owner that development and the demo act as.
USER_ID = "00000000-0000-4000-8000-000000000001"
USER_EMAIL = "owner@example.com"

_KEY_LIFE_S = 10 * 365 * 24 * 3600
_USER_TOKEN_LIFE_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Plane:
    """A running control plane: where it is, and the keys to it.

    :ivar user_token: JWT of the owner :data:`USER_ID`, good for 30 days
    :ivar database_url: of the superuser, for psql
    :ivar users: who can sign in, the owner first
    :ivar login_code: signs the owner in, once
    """

    url: str
    anon_key: str
    service_role_key: str
    user_token: str
    database_url: str
    jwt_secret: str
    users: Sequence[users.User]
    login_code: str = field(repr=False)

    def dashboard_url(self, view: str = "") -> str:
        """Return a link that opens *view* of the dashboard, signed in as the owner; good once.

        The code stands behind the ``#``, which browsers send nowhere.
        """
        return f"{self.url}/dashboard/#/link/{self.login_code}{view}"


@asynccontextmanager
async def running(
    folder: Path,
    *,
    port: int = 0,
    bin_dir: Path | None = None,
    changes_interval_s: float = 0.0,
    token_life_s: int = GatewayConfig.token_life_s,
    user_emails: Sequence[str] = (),
) -> AsyncIterator[Plane]:
    """Run a control plane over *folder* until the block ends.

    :param port: of the gateway; 0 picks a free one
    :param bin_dir: folder of Postgres's programs; None looks for one
    :param changes_interval_s: see :class:`GatewayConfig`
    :param token_life_s: see :class:`GatewayConfig`
    :param user_emails: of users beside the owner; who is there already stays as they are
    :raises LocalError: Postgres or the gateway cannot start; in a group, if Postgres ends later
    :raises MigrationError: the kept database does not fit this version
    """
    async with postgres.running(folder, bin_dir=bin_dir) as server, _watched(server):
        jwt_secret, issued_at = _kept_secret(folder / "jwt-secret")
        known_users, login_code = await _prepare(server, jwt_secret, [USER_EMAIL, *user_emails])
        # The keys depend on what is kept alone, so that they outlive a restart.
        anon = tokens.sign(_claims("anon", issued_at, _KEY_LIFE_S), jwt_secret)
        service = tokens.sign(_claims("service_role", issued_at, _KEY_LIFE_S), jwt_secret)
        user = tokens.sign(
            {**_claims("authenticated", int(time.time()), _USER_TOKEN_LIFE_S), "sub": USER_ID},
            jwt_secret,
        )
        config = GatewayConfig(
            admin_url=server.url(),
            authenticator_url=server.url(user="authenticator"),
            jwt_secret=jwt_secret,
            anon_key=anon,
            service_role_key=service,
            port=port,
            changes_interval_s=changes_interval_s,
            token_life_s=token_life_s,
        )
        async with serving(config) as url:
            yield Plane(url, anon, service, user, server.url(), jwt_secret, known_users, login_code)


@asynccontextmanager
async def _watched(server: postgres.Server) -> AsyncIterator[None]:
    """Cancel the block when the server ends by itself: without it the gateway is of no use."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(postgres.watch, server)
        yield
        tasks.cancel_scope.cancel()


async def _prepare(
    server: postgres.Server, jwt_secret: str, emails: Sequence[str]
) -> tuple[Sequence[users.User], str]:
    """Make the database what a Supabase project with our migrations is.

    Return its users, and a code that signs the first of them in once.
    """
    async with await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as connection:
        await connection.execute(resources.read("embedded/supabase.sql").encode())
        await connection.execute(resources.read("embedded/realtime.sql").encode())
        await connection.execute(resources.read("embedded/auth.sql").encode())
        await connection.execute(
            sql.SQL("alter role authenticator login password {}").format(server.password)
        )
        await migrate(server.url())
        await connection.execute(
            resources.read("embedded/after_migrations.sql").encode(), {"secret": jwt_secret}
        )
        known = await users.ensure(connection, jwt_secret, emails, owner_id=USER_ID)
        return known, await users.one_time_code(connection, known[0].email)


def _claims(role: str, issued_at: int, life_s: int) -> dict[str, object]:
    return {
        "iss": "tendril-dev",
        "role": role,
        "iat": issued_at,
        "exp": issued_at + life_s,
    }


def _kept_secret(path: Path) -> tuple[str, int]:
    """Return the folder's JWT secret and when it was made (Unix time); make it the first time."""
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        fresh.replace(path)
    return path.read_text().strip(), int(path.stat().st_mtime)
