"""What agents say: the life of several provisions, seen by those who run them."""

from collections.abc import Sequence

from .plane_exchanges import (
    AGENT,
    BOBS_CLUSTER,
    BOBS_HASH,
    CLAIM,
    CLUSTER,
    HASH,
    NOWHERE,
    OTHER_AGENT,
    WRONG_HASH,
    Exchange,
    Expected,
    Step,
    by_agent,
    by_owner,
    ok,
    refused,
    rows,
)

DIGITS = 12345678901234567890123
_SOURCE = {"repo": "https://example.test/t.git", "version": "v1"}
SNAPSHOT = {"template_source": _SOURCE, "terraform_vars": {"n": DIGITS}}
WRONG = refused("PT401", "cluster id or token are wrong", details=None)
LOST = refused("PT409", "the lease is lost")
NOT_THE_AUTHOR = refused("PT409", "the attempt is not the caller's, or not the newest")
NO_PROVISION = refused("PT404", "no such provision", details=None)
MEGABYTE = "x" * 2**20


def snapshot(stack: str) -> dict[str, object]:
    """Return a snapshot whose stack is its own."""
    return {"template_source": {**_SOURCE, "path": stack}}


def submitted(name: str) -> Exchange:
    """Queue a provision of a stack of its own and keep its id as *name*."""
    return by_owner(
        f"to be {name}",
        "create_provision",
        rows({"status": "QUEUED", "attempt": 0}),
        keeps={name: "0.id"},
        cluster_id=CLUSTER,
        config_snapshot=snapshot(name),
    )


def claimed(name: str, attempt: int = 1, agent: str | None = AGENT) -> Exchange:
    """Claim what must be *name*."""
    return by_agent(
        f"{name}, attempt {attempt}",
        "fetch_next_provision",
        rows({"id": f"<{name}>", "attempt": attempt, "status": "PROCESSING", "claimed_by": agent}),
        agent_id=agent,
    )


def described(
    *leases: tuple[str, int, str], agent: str = AGENT, **more: object
) -> dict[str, object]:
    """Return what an agent says of itself, and of its leases, in a heartbeat."""
    listed = [
        {"provision_id": f"<{name}>", "attempt": attempt, "phase": phase}
        for name, attempt, phase in leases
    ]
    return {"id": agent, "hostname": "h", "version": "1", "capacity": 1, "leases": listed, **more}


def held_as(name: str, attempt: int, *, held: bool, cancel: str = "none") -> Expected:
    """Expect this of the one lease in a heartbeat."""
    lease = {"provision_id": f"<{name}>", "attempt": attempt, "held": held, "cancel": cancel}
    return ok({"leases": [lease]})


def beat(title: str, name: str, phase: str, expected: Expected, agent: str = AGENT) -> Exchange:
    """Renew the lease of attempt 1."""
    said = described((name, 1, phase), agent=agent)
    return by_agent(title, "agent_heartbeat", expected, agent=said)


def logged(
    title: str,
    name: str,
    expected: Expected,
    *texts: tuple[int, str],
    first: int = 0,
    **more: object,
) -> Exchange:
    """Deliver chunks of attempt 1, each with its offset."""
    given = {"provision_id": f"<{name}>", "attempt": 1, "agent_id": AGENT, "first_seq": first}
    chunks = [{"s": "STDOUT", "o": offset, "t": text} for offset, text in texts]
    return by_agent(
        title, "insert_provision_logs", expected, given={**given, "chunks": chunks, **more}
    )


def reported(title: str, name: str, status: str, expected: Expected, **more: object) -> Exchange:
    """Report a status of attempt 1."""
    given = {"provision_id": f"<{name}>", "status": status, "attempt": 1, "agent_id": AGENT}
    return by_agent(title, "update_provision_status", expected, given={**given, **more})


def ack(next_seq: int, *, accepted: bool = True, cancel: str = "none") -> Expected:
    """Expect this of a batch of the log."""
    return ok({"next_seq": next_seq, "accepted": accepted, "cancel": cancel})


def outcome(status: str, *, changed: bool) -> Expected:
    """Expect this of a report."""
    return ok({"status": status, "changed": changed})


_HELLO = ok({"leases": [], "drain": False, "server_time": "<time>", "lease_ttl_s": 90})
_SAID = {"X-Cluster-ID": CLUSTER, "X-Agent-Token": HASH[:12]}
TWO = ((0, "one\r\nline\n"), (10, "zwei: ü\u2028\n"))
_WHOLE_CLAIM = "id,attempt,status,config_snapshot::text"
_THE_CLAIM = rows(
    {
        "id": "<exact>",
        "attempt": 1,
        "status": "PROCESSING",
        "config_snapshot": f'{{"terraform_vars": {{"n": {DIGITS}}}, "template_source": '
        '{"repo": "https://example.test/t.git", "version": "v1"}}',
    }
)

_HEARTBEATS: Sequence[Step] = (
    by_agent("without an agent", "agent_heartbeat", _HELLO),
    by_agent("of an agent", "agent_heartbeat", _HELLO, agent=described()),
    by_agent("explicit null", "agent_heartbeat", _HELLO, agent=None),
    by_agent("stranger", "agent_heartbeat", WRONG, token_hash=WRONG_HASH),
    by_agent("wrong cluster", "agent_heartbeat", WRONG, cluster_id=BOBS_CLUSTER),
    by_agent("no such cluster", "agent_heartbeat", WRONG, cluster_id=NOWHERE),
    by_agent("upper-case hash", "agent_heartbeat", _HELLO, token_hash=HASH.upper()),
    by_agent("a hash and more", "agent_heartbeat", WRONG, token_hash=HASH + "0"),
    by_agent(
        "agent without an id",
        "agent_heartbeat",
        refused("PT422", "p_agent is an object with a uuid id"),
        agent={"hostname": "h\r\nX-Hostile: 1"},
    ),
    by_agent(
        "agent with lines and a megabyte",
        "agent_heartbeat",
        _HELLO,
        agent=described(agent=OTHER_AGENT, hostname="two\r\nlines", version=MEGABYTE),
    ),
    Exchange(
        name="agent_heartbeat: headers and no token",
        who="nobody",
        path="/rpc/agent_heartbeat",
        body={"p_cluster_id": CLUSTER, "p_token_hash": HASH},
        expected=_HELLO,
        headers=_SAID,
    ),
)

_EXACT: Sequence[Step] = (
    by_agent("nothing queued", "fetch_next_provision", rows(), agent_id=AGENT),
    by_owner(
        "with 23 digits",
        "create_provision",
        rows({"config_snapshot": SNAPSHOT}),
        keeps={"exact": "0.id"},
        cluster_id=CLUSTER,
        config_snapshot=SNAPSHOT,
    ),
    by_agent("stranger", "fetch_next_provision", WRONG, token_hash=WRONG_HASH),
    by_agent("wrong cluster", "fetch_next_provision", WRONG, cluster_id=BOBS_CLUSTER),
    by_agent(
        "another's queue",
        "fetch_next_provision",
        rows(),
        cluster_id=BOBS_CLUSTER,
        token_hash=BOBS_HASH,
    ),
    *(
        by_agent(
            title,
            "fetch_next_provision",
            _THE_CLAIM,
            select=_WHOLE_CLAIM,
            agent_id=AGENT,
            claim_id=CLAIM,
        )
        for title in ("exact", "repeated")
    ),
    by_agent(
        "another's claim id", "fetch_next_provision", rows(), agent_id=OTHER_AGENT, claim_id=CLAIM
    ),
    beat("held", "exact", "PLAN", held_as("exact", 1, held=True)),
    beat("another agent's lease", "exact", "PLAN", held_as("exact", 1, held=False), OTHER_AGENT),
    logged("two chunks", "exact", ack(2), *TWO),
    logged("repeated", "exact", ack(2), *TWO),
    logged("a gap", "exact", ack(2, accepted=False), (30, "x"), first=5),
    logged(
        "offset does not add up",
        "exact",
        refused("PT422", "a chunk's byte offset does not add up", details="seq=2"),
        (7, "x"),
        first=2,
    ),
    logged("stale attempt", "exact", NOT_THE_AUTHOR, *TWO, attempt=2),
    logged("another agent", "exact", NOT_THE_AUTHOR, *TWO, agent_id=OTHER_AGENT),
    logged("without an agent", "exact", NOT_THE_AUTHOR, *TWO, agent_id=None),
    logged("stranger", "exact", WRONG, *TWO, token_hash=WRONG_HASH),
    logged("wrong cluster", "exact", WRONG, *TWO, cluster_id=BOBS_CLUSTER),
    logged(
        "another's provision",
        "exact",
        NO_PROVISION,
        *TWO,
        cluster_id=BOBS_CLUSTER,
        token_hash=BOBS_HASH,
    ),
    logged(
        "a megabyte",
        "exact",
        refused("PT422", "a chunk is {s: stream, o: byte offset, t: text of at most 64 KiB}"),
        (22, MEGABYTE),
        first=2,
    ),
    by_agent(
        "of an agent with an id",
        "insert_provision_log",
        refused("PT409", "the attempt is not the caller's"),
        provision_id="<exact>",
        log_chunk="x",
        stream_type="STDOUT",
    ),
    reported(
        "running",
        "exact",
        "PROCESSING",
        outcome("PROCESSING", changed=False),
        execution_metadata={"n": DIGITS},
    ),
    reported("stale attempt", "exact", "SUCCESS", LOST, attempt=2),
    reported("no attempt", "exact", "SUCCESS", LOST, attempt=None),
    reported("another agent", "exact", "SUCCESS", LOST, agent_id=OTHER_AGENT),
    reported("stranger", "exact", "SUCCESS", WRONG, token_hash=WRONG_HASH),
    reported("wrong cluster", "exact", "SUCCESS", WRONG, cluster_id=BOBS_CLUSTER),
    reported(
        "another's provision",
        "exact",
        "SUCCESS",
        NO_PROVISION,
        cluster_id=BOBS_CLUSTER,
        token_hash=BOBS_HASH,
    ),
    reported(
        "unknown status with a line break",
        "exact",
        "DONE\r\nX-Hostile: 1",
        refused("PT422", "an agent cannot report this status"),
    ),
    reported(
        "before the last chunk",
        "exact",
        "SUCCESS",
        refused("PT422", "the log is not complete yet", details="stored=2 expected=5"),
        log_chunks=5,
    ),
    reported(
        "metadata that is no object",
        "exact",
        "SUCCESS",
        refused("PT422", "execution_metadata is a JSON object of at most 256 KiB"),
        execution_metadata=[1],
    ),
    reported(
        "a megabyte of metadata",
        "exact",
        "SUCCESS",
        refused("PT422", "execution_metadata is a JSON object of at most 256 KiB"),
        execution_metadata={"x": MEGABYTE},
    ),
    reported("success", "exact", "SUCCESS", outcome("SUCCESS", changed=True), log_chunks=2),
    reported("repeated", "exact", "SUCCESS", outcome("SUCCESS", changed=False), log_chunks=2),
    reported("another outcome", "exact", "FAILED", LOST),
    beat("after the end", "exact", "PLAN", held_as("exact", 1, held=False)),
    logged("after the end", "exact", ack(3), (22, "late\n"), first=2),
)


def _appended(title: str, expected: Expected, **more: object) -> Exchange:
    given = {"provision_id": "<original>", "log_chunk": "a\r\nb", "stream_type": "STDOUT"}
    return by_agent(title, "insert_provision_log", expected, given={**given, **more})


_APPENDED = Expected(204, "")
_NO_CHUNK = refused("PT422", "a chunk is text of at most 64 KiB with a stream type")
_LONG_FAILURE = {"error_message": "two\r\nlines " + MEGABYTE, "error_code": "A\nB" + MEGABYTE}

_ORIGINAL: Sequence[Step] = (
    submitted("original"),
    claimed("original", agent=None),
    by_agent("renews what has no agent", "agent_heartbeat", _HELLO),
    _appended("one", _APPENDED),
    _appended("the same again", _APPENDED, stream_type="stderr"),
    _appended("stranger", WRONG, token_hash=WRONG_HASH),
    _appended("wrong cluster", WRONG, cluster_id=BOBS_CLUSTER),
    _appended("another's provision", NO_PROVISION, cluster_id=BOBS_CLUSTER, token_hash=BOBS_HASH),
    _appended("a megabyte", _NO_CHUNK, log_chunk=MEGABYTE),
    _appended("no text", _NO_CHUNK, log_chunk=None),
    _appended("unknown stream with a line break", _NO_CHUNK, stream_type="STDOUT\r\nX-Hostile: 1"),
    reported(
        "lines and a megabyte",
        "original",
        "FAILED",
        outcome("FAILED", changed=True),
        attempt=None,
        agent_id=None,
        **_LONG_FAILURE,
    ),
    reported(
        "repeated without an attempt",
        "original",
        "FAILED",
        outcome("FAILED", changed=False),
        attempt=None,
        agent_id=None,
    ),
)

STEPS: Sequence[Step] = (*_HEARTBEATS, *_EXACT, *_ORIGINAL)
