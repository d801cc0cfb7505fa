"""The databases of ``bench.claims``: a server, queues of three lengths, and those of two libraries.

Loads in bulk: triggers are off while it does, and what autovacuum would do later is done at once.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import psycopg
from pgqueuer.queries import Queries
from procrastinate.schema import SchemaManager

from bench.claims_contestants import Target, sql
from tendril_rt import resources
from tendril_rt.local.postgres import Server
from tendril_rt.migrate import migrate

FINISHED = 1_000_000
QUEUED = {"1k": 1_000, "100k": 100_000, "1M": 1_000_000}
LEASES = 10_000
MANY = 32
_CROWD = 100  # clusters with leases, and no queue

#: What users typically submit, 400 bytes of it.
SNAPSHOT = json.dumps(
    {
        "template_source": {
            "repo": "https://git.example.com/platform/eks.git",
            "version": "v1.4.2",
        },
        "terraform_vars": {f"variable_{n}": f"value {n}" for n in range(8)},
        "backend_config": {"bucket": "tfstate", "key": "acme/prod.tfstate", "region": "eu-west-1"},
    }
)
_SERVER_SETTINGS = (
    # Durability is left as it is. No checkpoint of ours falls into a measurement: each would make
    # the next write of every page a full one.
    b"alter system set max_wal_size = '16GB'",
    b"alter system set checkpoint_timeout = '1h'",
    # What autovacuum does every minute is done before each cell instead, for all alike.
    b"alter system set autovacuum = off",
    b"select pg_reload_conf()",
)


@dataclass(frozen=True)
class Databases:
    """What was loaded.

    :ivar server: with a database for each of QUEUED, "leases", "rivals one" and "rivals many"
    :ivar one: the cluster with the queue; a list, as the others
    :ivar many: clusters that share a tenth of that queue beside it
    :ivar idle: clusters with nothing queued; in ``leases`` each with live leases
    :ivar leases: those
    """

    server: Server
    one: list[Target]
    many: list[Target]
    idle: list[Target]
    leases: list[Target]


@contextmanager
def bulk(url: str) -> Iterator[psycopg.Connection]:
    """Connect for bulk work: no triggers, parameters inserted on our side."""
    with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute(b"set session_replication_role = replica")
        connection.execute(b"set maintenance_work_mem = '256MB'")
        yield connection


def load(server: Server) -> Databases:
    """Make all databases; ours and the libraries' at the same time."""
    with bulk(server.url()) as admin:
        for setting in _SERVER_SETTINGS:
            admin.execute(setting)
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(_load_ours, server)
        pool.submit(_load_rivals, server).result()
        databases = ours.result()
    with bulk(server.url()) as admin:
        admin.execute(b"checkpoint")
    return databases


def vacuum(url: str) -> None:
    """Do what autovacuum would have done by now, by the settings of each table."""
    with bulk(url) as admin:
        admin.execute(b"vacuum (skip_locked)")


def url_of(server: Server, key: str) -> str:
    return server.url(_name(key))


def _name(key: str) -> str:
    return f"bench_{key.replace(' ', '_').lower()}"


def _create(server: Server, key: str, template: str | None = None) -> str:
    """Make a database, by copying files where there is a template; return its URL."""
    source = f"template {_name(template)} strategy file_copy" if template else ""
    with bulk(server.url()) as admin:
        admin.execute(f"create database {_name(key)} {source}".encode())
    return url_of(server, key)


def _load_ours(server: Server) -> Databases:
    base = _create(server, "1k")
    with bulk(base) as admin:
        admin.execute(resources.read("embedded/supabase.sql").encode())
    anyio.run(migrate, base)
    clusters = _make_clusters(base)
    one, many, idle = clusters[:1], clusters[1 : MANY + 1], clusters[MANY + 1 :]
    _fill(base, "public.provisions", "load_finished", FINISHED, _ids(one + many))
    for key in ("100k", "1M"):
        _create(server, key, "1k")
    for key, length in QUEUED.items():
        _fill(url_of(server, key), "public.provisions", "load_queue", length, _ids(one))
        beside = max(length // 10, 32 * len(many))
        _fill(url_of(server, key), "", "load_queue", beside, _ids(many))
    leases = _load_leases(_create(server, "leases", "100k"), idle)
    return Databases(server, one, many, idle, leases)


def _make_clusters(url: str) -> list[Target]:
    owner = json.dumps({"role": "authenticated", "sub": "a11ce000-0000-4000-8000-000000000001"})
    with bulk(url) as admin:
        admin.execute(b"select set_config('request.jwt.claims', %s, false)", (owner,))
        made = admin.execute(sql("load_clusters"), {"count": 1 + MANY + _CROWD}).fetchall()
    return [
        Target(row[0]["cluster_id"], hashlib.sha256(row[0]["token"].encode()).hexdigest())
        for row in made
    ]


def _ids(clusters: list[Target]) -> list[str]:
    return [cluster.queue for cluster in clusters]


def _fill(
    url: str, table: str, name: str, count: int, clusters: list[str] | None = None, queues: int = 1
) -> None:
    """Run ``<name>.sql`` in bulk; rebuild the indexes of *table* once instead of row by row."""
    arguments = {"clusters": clusters, "count": count, "queues": queues, "snapshot": SNAPSHOT}
    with bulk(url) as admin:
        if table:
            admin.execute(sql("suspend_indexes"), {"table": table})
        admin.execute(sql(name), arguments)
        if table:
            admin.execute(f"reindex table {table}".encode())
            admin.execute(f"vacuum (freeze, analyze) {table}".encode())


def _load_leases(url: str, clusters: list[Target]) -> list[Target]:
    hashes = {cluster.queue: cluster.token_hash for cluster in clusters}
    arguments = {"clusters": list(hashes), "count": LEASES, "snapshot": SNAPSHOT}
    with bulk(url) as admin:
        made = admin.execute(sql("load_leases"), arguments).fetchall()
        admin.execute(b"vacuum (analyze)")
    return [Target(cluster, hashes[cluster], agent, lease) for cluster, agent, lease in made]


def _load_rivals(server: Server) -> None:
    base = _create(server, "rivals one")
    anyio.run(_install_rivals, base)
    _fill(base, "pgqueuer_log", "load_pgqueuer_finished", FINISHED)
    _fill(base, "procrastinate_jobs", "load_procrastinate_finished", FINISHED)
    _create(server, "rivals many", "rivals one")
    for key, queues in (("rivals one", 1), ("rivals many", MANY)):
        url = url_of(server, key)
        _fill(url, "pgqueuer", "load_pgqueuer", QUEUED["100k"], queues=queues)
        _fill(url, "procrastinate_jobs", "load_procrastinate", QUEUED["100k"], queues=queues)


async def _install_rivals(url: str) -> None:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with connection:
        queries = Queries.from_psycopg_connection(connection)
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.execute(SchemaManager.get_schema())
