"""``tendril dev``: the embedded control plane alone, until SIGTERM or Ctrl-C."""

import functools
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import anyio
import orjson

from tendril_rt.aio.signals import cancelled_by_signals
from tendril_rt.cli import logging
from tendril_rt.cli.local_plane import Plane, folder_for, running


def dev(
    data: str | None,
    port: int,
    *,
    as_json: bool,
    changes_interval_s: float,
    token_life_s: int,
    user_emails: Sequence[str],
) -> int:
    """Run until told to stop; print how to reach it once it is ready.

    :param data: folder to keep everything in; None throws it away
    :param changes_interval_s: pace of postgres_changes; 0 is at once
    :param token_life_s: how long the access token of who signs in is good
    :param user_emails: of users beside the owner
    :raises TendrilError: it cannot start
    """
    logging.configure("warning", "console")
    with folder_for(data) as folder:
        up = running(
            folder,
            port,
            changes_interval_s=changes_interval_s,
            token_life_s=token_life_s,
            user_emails=user_emails,
        )
        kept_in = None if data is None else str(folder)
        anyio.run(functools.partial(_dev, up, kept_in, as_json=as_json))
    return 0


async def _dev(
    plane: AbstractAsyncContextManager[Plane], kept_in: str | None, *, as_json: bool
) -> None:
    async with cancelled_by_signals(), plane as up:
        print(_as_json(up) if as_json else _as_text(up, kept_in), flush=True)
        await anyio.sleep_forever()
    if not as_json:
        print("stopped", file=sys.stderr)


def _as_json(up: Plane) -> str:
    return orjson.dumps(
        {
            "url": up.url,
            "anon_key": up.anon_key,
            "service_role_key": up.service_role_key,
            "user_token": up.user_token,
            "database_url": up.database_url,
            "dashboard_url": up.dashboard_url(),
            "users": [{"email": user.email, "password": user.password} for user in up.users],
        }
    ).decode()


def _as_text(up: Plane, kept_in: str | None) -> str:
    users = "\n".join(f"                    {user.email}  {user.password}" for user in up.users)
    return f"""\
The embedded control plane is up, on loopback only: for development and tests. In production the
control plane is a Supabase project with the same sql/migrations.

  URL               {up.url}
  anon key          {up.anon_key}
  service_role key  {up.service_role_key}
  user token        {up.user_token}
  sign in as        {users.strip()}
  database          {up.database_url}
  dashboard         {up.dashboard_url()}
                    (this link signs in once; after that: {up.url}/dashboard/)
  data              {kept_in or "thrown away at the end; --data FOLDER keeps it"}

psql:
  psql '{up.database_url}'

grape (asks for the password):
  grape login {up.users[0].email} --url {up.url} --key '<anon key>'

supabase-js:
  createClient('{up.url}', '<anon key>')
    .auth.signInWithPassword({{ email: '{up.users[0].email}', password: '…' }})

An agent: register a cluster, then run it with what that prints:
  grape clusters add laptop
  TENDRIL_CLUSTER_ID=… TENDRIL_API_TOKEN=… SUPABASE_URL={up.url} \\
    SUPABASE_KEY='<anon key>' TENDRIL_STATE_DIR="$HOME/.local/state/tendril" tendril run

Ctrl-C stops it."""
