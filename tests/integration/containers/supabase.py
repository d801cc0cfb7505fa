"""The same stage with Supabase's own servers, of their images: ``TENDRIL_IT_SUPABASE=1``.

Only where images can be pulled: CI cannot, so this is not run there. What is set is what Supabase's
own compose file sets, as far as Postgres, PostgREST and Realtime need it; nginx is their front.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import psycopg
from psycopg import sql
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ExecWaitStrategy, HttpWaitStrategy

from tendril_rt.local.gateway import tokens
from tendril_rt.local.plane import USER_ID
from tendril_rt.migrate import migrate
from tests.conftest import RunningPlane

from .engine import LABELS, Engine
from .stage import Stage, network_of_our_own

_POSTGRES = "supabase/postgres:15.8.1.060"
_REST = "postgrest/postgrest:v14.17"
_REALTIME = "supabase/realtime:v2.122.0"
_FRONT = "nginx:1.28-alpine"
_PASSWORD = "only-for-tests"
_TENANT = "realtime-dev"  # the one that SEED_SELF_HOST makes, known by the first label of the host
_FRONT_CONFIG = f"""
events {{}}
http {{
  server {{
    listen 8000;
    location /health {{ return 200; }}
    location /rest/v1/ {{ proxy_pass http://rest:3000/; }}
    location /realtime/v1/ {{
      proxy_pass http://{_TENANT}.realtime:4000/socket/;
      proxy_http_version 1.1;
      proxy_set_header Host {_TENANT}.realtime;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""


@contextmanager
def official(_: Engine) -> Iterator[Stage]:
    """Run Supabase's servers, with our migrations in them, until the block ends."""
    jwt_secret = secrets.token_hex(32)
    with network_of_our_own() as network, ExitStack() as servers:
        postgres = servers.enter_context(_postgres(network, jwt_secret))
        host, port = postgres.get_container_host_ip(), postgres.get_exposed_port(5432)
        url = f"postgresql://postgres:{_PASSWORD}@{host}:{port}/postgres"
        _give_passwords(url.replace("postgres:", "supabase_admin:", 1))
        anyio.run(migrate, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "select tendril_private.set_jwt_secret(%s), tendril_private.attach_realtime()",
                (jwt_secret,),
            )
        servers.enter_context(_rest(network, jwt_secret))
        servers.enter_context(_realtime(network, jwt_secret))
        front = servers.enter_context(_front(network))
        address = f"{front.get_container_host_ip()}:{front.get_exposed_port(8000)}"
        plane = RunningPlane(
            url=f"http://{address}",
            anon_key=_key("anon", jwt_secret),
            service_role_key=_key("service_role", jwt_secret),
            user_token=_key("authenticated", jwt_secret),
            database_url=url,
            dashboard_url="",  # no static files are served there
            users=[],
        )
        yield Stage(plane, "http://front:8000", network, postgres)


def _server(image: str, network: Network, *names: str, **environment: str) -> DockerContainer:
    return (
        DockerContainer(image)
        .with_network(network)
        .with_network_aliases(*names)
        .with_envs(**environment)
        .with_kwargs(labels=LABELS)
    )


def _postgres(network: Network, jwt_secret: str) -> DockerContainer:
    return (
        _server(
            _POSTGRES,
            network,
            "database",
            POSTGRES_PASSWORD=_PASSWORD,
            JWT_SECRET=jwt_secret,
            JWT_EXP="3600",
        )
        .with_exposed_ports(5432)
        .waiting_for(ExecWaitStrategy(["pg_isready", "-U", "postgres", "-h", "127.0.0.1"]))
    )


def _give_passwords(admin_url: str) -> None:
    """Do what the compose file's roles.sql and realtime.sql do."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("alter role authenticator with password {}").format(_PASSWORD))
        connection.execute("create schema if not exists _realtime authorization supabase_admin")


def _rest(network: Network, jwt_secret: str) -> DockerContainer:
    return _server(
        _REST,
        network,
        "rest",
        PGRST_DB_URI=f"postgresql://authenticator:{_PASSWORD}@database/postgres",
        PGRST_DB_SCHEMAS="public",
        PGRST_DB_ANON_ROLE="anon",
        PGRST_JWT_SECRET=jwt_secret,
    )


def _realtime(network: Network, jwt_secret: str) -> DockerContainer:
    return (
        _server(
            _REALTIME,
            network,
            f"{_TENANT}.realtime",
            PORT="4000",
            DB_HOST="database",
            DB_PORT="5432",
            DB_USER="supabase_admin",
            DB_PASSWORD=_PASSWORD,
            DB_NAME="postgres",
            DB_AFTER_CONNECT_QUERY="SET search_path TO _realtime",
            DB_ENC_KEY="supabaserealtime",
            API_JWT_SECRET=jwt_secret,
            SECRET_KEY_BASE=secrets.token_hex(32),
            ERL_AFLAGS="-proto_dist inet_tcp",
            DNS_NODES="''",
            RLIMIT_NOFILE="10000",
            APP_NAME="realtime",
            SEED_SELF_HOST="true",
            RUN_JANITOR="true",
        )
        .with_exposed_ports(4000)
        .waiting_for(HttpWaitStrategy(4000, "/"))
    )


def _front(network: Network) -> DockerContainer:
    return (
        _server(_FRONT, network, "front")
        .with_copy_into_container(_FRONT_CONFIG.encode(), "/etc/nginx/nginx.conf")
        .with_exposed_ports(8000)
        .waiting_for(HttpWaitStrategy(8000, "/health"))
    )


def _key(role: str, jwt_secret: str) -> str:
    now = int(time.time())
    whose = {"sub": USER_ID} if role == "authenticated" else {}
    claims = {"iss": "supabase", "role": role, "iat": now, "exp": now + 86400, **whose}
    return tokens.sign(claims, jwt_secret)
