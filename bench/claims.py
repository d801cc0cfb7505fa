"""What a claim costs: ``make bench B=claims``.

Ours beside simpler claims on the same tables and beside two libraries' own, on one private Postgres
with its ordinary durability, in turn (every round runs every cell once), medians of the rounds.
About six minutes on two CPUs, and 8 GB of disk while it runs.

A cell is a number of processes that claim as fast as they can, from one cluster or from 32 in
turn. What they claim is ended 20 times a second by one statement, and as much is queued anew: so
the queue keeps its length, and a cluster has about as many live leases as it claims in 50 ms (its
limit is 1000). What the two libraries' claims took is finished and queued anew after each cell.

``python -m bench.claims --only headline --rounds 15`` repeats what the bounds are about, and leaves
the other cells and the writes out.
"""

import argparse
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from bench.claims_contestants import Target, sql
from bench.claims_crew import Crew, Task, Work, crew
from bench.claims_figures import Cell, Measured, Round, report
from bench.claims_load import MANY, SNAPSHOT, Databases, bulk, load, url_of, vacuum
from bench.claims_writes import Writes, measure, stored_bytes, wal_of_empty_polls
from tendril_rt.local import postgres

_ROUNDS = 3
_HEADLINE_ROUNDS = 7  # of what the bounds are about
_WARM_S = 0.25
_RECORD_S = 0.5
_HEADLINE_S = 0.8
_AGENTS = (1, 8, 32)
_LEASED = ("ours", "same rows", "two rows", "ours, in requests", "same rows, in requests")
_RIVALS = ("PgQueuer", "Procrastinate")


def _cells() -> Iterator[Cell]:
    """Yield every cell of a whole round."""
    for agents in _AGENTS:
        for spread in ("one", "many"):
            for contestant in ("ours", "same rows", "bare", *_RIVALS):
                yield Cell(contestant, agents, spread, "100k")
            for size in ("1k", "1M", "leases"):
                yield Cell("ours", agents, spread, size)


_HEADLINE = [
    *(Cell(contestant, 8, "one", "100k") for contestant in (*_LEASED, "bare", *_RIVALS)),
    *(Cell("ours", 8, "one", size) for size in ("1k", "1M", "leases")),
]


def _run(cell: Cell, agents: Crew, databases: Databases) -> Round:
    """Let the agents work through one cell, and put everything back."""
    url, targets = _place(cell, databases)
    vacuum(url)  # every cell begins with a queue whose head nobody has claimed before it
    clusters = [target.queue for target in targets]
    tasks = [
        Task(cell.contestant, url, tuple(targets[(n + k) % len(targets)] for k in range(MANY)))
        for n in range(cell.agents)
    ]
    with bulk(url) as admin:
        # The few rows of a turnover are found by index, whatever the statistics say.
        admin.execute(b"set session_replication_role = origin; set enable_seqscan = off")
        admin.execute(b"set enable_hashjoin = off; set enable_mergejoin = off")

        def turn_over() -> None:
            if cell.contestant in _LEASED:
                arguments = {"clusters": clusters, "snapshot": SNAPSHOT}
                admin.execute(sql("turnover_leases"), arguments)

        record_s = _HEADLINE_S if cell in _HEADLINE else _RECORD_S
        work = agents.work(tasks, warm_s=_WARM_S, record_s=record_s, meanwhile=turn_over)
        turn_over()
        if cell.contestant == "bare":
            admin.execute(sql("turnover_bare"), {"claimed": work.claimed, "snapshot": SNAPSHOT})
        elif cell.contestant in _RIVALS:
            admin.execute(sql(f"turnover_{cell.contestant.lower()}"))
    return _round(work, record_s)


def _place(cell: Cell, databases: Databases) -> tuple[str, list[Target]]:
    if cell.contestant in _RIVALS:
        queues = 1 if cell.spread == "one" else MANY
        url = url_of(databases.server, f"rivals {cell.spread}")
        return url, [Target(f"queue {n}") for n in range(queues)]
    targets = databases.one if cell.spread == "one" else databases.many
    return url_of(databases.server, cell.size), targets


def _round(work: Work, record_s: float) -> Round:
    took_ms = sorted(1000 * took for took in work.took_s)
    assert took_ms, "not one claim was made"
    return Round(
        per_s=len(took_ms) / record_s,
        p50_ms=statistics.median(took_ms),
        p99_ms=took_ms[min(len(took_ms) - 1, int(len(took_ms) * 0.99))],
        twice=len(work.claimed) - len(set(work.claimed)),
        empty=work.empty,
    )


def _measure(
    agents: Crew, databases: Databases, headline_rounds: int, *, only_headline: bool
) -> Measured:
    rounds: dict[Cell, list[Round]] = defaultdict(list)
    for number in range(headline_rounds):
        cells = list(_cells()) if number < _ROUNDS and not only_headline else []
        cells += [cell for cell in _HEADLINE if cell not in cells]
        # Every other round backwards, so that nobody always comes after the same neighbour.
        for cell in cells if number % 2 == 0 else reversed(cells):
            rounds[cell].append(_run(cell, agents, databases))
    writes = {} if only_headline else _writes(agents, databases)
    return Measured(
        rounds,
        writes,
        wal_of_empty_polls(url_of(databases.server, "1k"), databases.idle[0]),
        *stored_bytes(url_of(databases.server, "leases")),
    )


def _writes(agents: Crew, databases: Databases) -> dict[str, Writes]:
    leased = url_of(databases.server, "leases")
    places = {
        "heartbeat": (leased, databases.leases[:200]),
        "log 1 KB": (leased, databases.leases[:8]),
        "log 10 KB": (leased, databases.leases[8:16]),
        "empty poll": (url_of(databases.server, "1k"), databases.idle),
        "whole run": (url_of(databases.server, "100k"), databases.many),
    }
    return {
        name: measure(agents, name, url, targets, agents=8, record_s=1.5)
        for name, (url, targets) in places.items()
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.claims")
    parser.add_argument("--only", choices=["headline"], help="what the bounds are about")
    parser.add_argument("--rounds", type=int, default=_HEADLINE_ROUNDS, help="of the headline")
    return parser.parse_args()


def main() -> None:
    """Print the tables and write the JSON file."""
    arguments = _arguments()
    with (
        tempfile.TemporaryDirectory() as name,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(postgres.running(Path(name) / "server")) as server,
        crew(max(_AGENTS)) as agents,
    ):
        databases = load(server)
        measured = _measure(
            agents, databases, arguments.rounds, only_headline=arguments.only == "headline"
        )
    report(measured, os.cpu_count() or 0)


if __name__ == "__main__":
    main()
