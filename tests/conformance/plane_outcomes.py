"""What agents hear when it does not go as planned: cancelled, superseded, silent, draining."""

from collections.abc import Sequence
from dataclasses import replace

from .plane_agents import (
    LOST,
    NO_PROVISION,
    NOT_THE_AUTHOR,
    TWO,
    WRONG,
    ack,
    beat,
    claimed,
    described,
    held_as,
    logged,
    outcome,
    reported,
    submitted,
)
from .plane_exchanges import (
    AGENT,
    BOBS_CLUSTER,
    CLUSTER,
    OTHER_AGENT,
    WRONG_HASH,
    Exchange,
    Expected,
    Meanwhile,
    Step,
    by_agent,
    by_owner,
    ok,
    rows,
)
from .rest_cases import SECRET

_CANCELLED: Sequence[Step] = (
    submitted("withdrawn"),
    by_owner("another's", "cancel_provision", NO_PROVISION, who="bob", provision_id="<withdrawn>"),
    by_owner(
        "queued",
        "cancel_provision",
        ok({"status": "CANCELLED", "changed": True, "cancel": "graceful"}),
        provision_id="<withdrawn>",
    ),
    by_owner(
        "repeated",
        "cancel_provision",
        ok({"status": "CANCELLED", "changed": False, "cancel": "graceful"}),
        provision_id="<withdrawn>",
        force=None,
    ),
    by_agent("cancelled is not queued", "fetch_next_provision", rows(), agent_id=AGENT),
    logged("of one never claimed", "withdrawn", NOT_THE_AUTHOR, *TWO, attempt=0),
    reported("of one never claimed", "withdrawn", "SUCCESS", LOST, attempt=0),
    submitted("stopped"),
    claimed("stopped"),
    by_owner(
        "running",
        "cancel_provision",
        ok({"status": "PROCESSING", "changed": True, "cancel": "graceful"}),
        provision_id="<stopped>",
    ),
    beat("cancelled", "stopped", "APPLY", held_as("stopped", 1, held=True, cancel="graceful")),
    by_owner(
        "by force",
        "cancel_provision",
        ok({"status": "PROCESSING", "changed": True, "cancel": "force"}),
        provision_id="<stopped>",
        force=True,
    ),
    logged("cancelled by force", "stopped", ack(2, cancel="force"), *TWO),
    reported("cancelled", "stopped", "CANCELLED", outcome("CANCELLED", changed=True)),
    by_owner(
        "ended",
        "cancel_provision",
        ok({"status": "CANCELLED", "changed": False, "cancel": "force"}),
        provision_id="<stopped>",
    ),
)

_REQUEUED = """
update public.provisions set not_before = now() where status = 'QUEUED'
"""
_SILENT = "select tests.silence(id, '{}') from public.provisions where status = 'PROCESSING'"

_STALE: Sequence[Step] = (
    submitted("retried"),
    claimed("retried"),
    by_owner("nobody is dead", "reap_leases", ok(0), who="service_role"),
    Meanwhile(_SILENT.format("2 min")),
    by_owner("one is dead", "reap_leases", ok(1), who="service_role"),
    by_owner("repeated", "reap_leases", ok(0), who="service_role", at_most=1),
    by_agent("waits for its next attempt", "fetch_next_provision", rows(), agent_id=OTHER_AGENT),
    Meanwhile(_REQUEUED),
    claimed("retried", attempt=2, agent=OTHER_AGENT),
    beat("superseded", "retried", "PLAN", held_as("retried", 1, held=False)),
    logged("superseded", "retried", NOT_THE_AUTHOR, *TWO),
    reported("superseded", "retried", "SUCCESS", LOST),
    reported(
        "of the newer attempt",
        "retried",
        "SUCCESS",
        outcome("SUCCESS", changed=True),
        attempt=2,
        agent_id=OTHER_AGENT,
    ),
    submitted("silent"),
    claimed("silent"),
    beat("apply", "silent", "APPLY", held_as("silent", 1, held=True)),
    Meanwhile(_SILENT.format("20 min")),
    by_owner("dead in apply", "reap_leases", ok(1), who="service_role"),
    Exchange(
        "provisions: given up in apply",
        "alice",
        "/provisions?select=status,error_code&id=eq.<silent>",
        None,
        rows({"status": "FAILED", "error_code": "AGENT_LOST_DURING_APPLY"}),
    ),
    beat("back from silence", "silent", "APPLY", held_as("silent", 1, held=True)),
    reported("back from silence", "silent", "SUCCESS", outcome("SUCCESS", changed=True)),
)

_TOKEN = ok({"token": "<jwt>", "expires_in_s": 3600, "expires_at": "<time>"})
_HEARD = "id,cluster_id,status,created_at"
_NOT_READ = Expected(401, {"code": "42501", "message": "permission denied for table provisions"})
_DRAINED = ok({"drain": True, "changed": True})

_LISTENING: Sequence[Step] = (
    by_agent("none configured", "agent_realtime_token", ok(None)),
    by_agent("stranger", "agent_realtime_token", WRONG, token_hash=WRONG_HASH),
    by_agent("wrong cluster", "agent_realtime_token", WRONG, cluster_id=BOBS_CLUSTER),
    Meanwhile(f"select tendril_private.set_jwt_secret('{SECRET}')"),
    replace(by_agent("configured", "agent_realtime_token", _TOKEN), keeps={"jwt": "token"}),
    Exchange(
        "provisions: as the holder of the token",
        "<jwt>",
        f"/provisions?select={_HEARD}&order=created_at&limit=1",
        None,
        rows({"id": "<exact>", "cluster_id": CLUSTER, "status": "SUCCESS"}),
    ),
    Exchange("provisions: more than the token is for", "<jwt>", "/provisions", None, _NOT_READ),
    Exchange(
        "provisions: as a listener of another cluster",
        "stranger's listener",
        f"/provisions?select={_HEARD}",
        None,
        rows(),
    ),
    by_owner("drain", "set_cluster_options", _DRAINED, cluster_id=CLUSTER, drain=True),
    by_agent("draining", "agent_heartbeat", ok({"drain": True}), agent=described()),
    submitted("held back"),
    by_agent("draining", "fetch_next_provision", rows(), agent_id=AGENT),
    by_owner(
        "repeated",
        "set_cluster_options",
        ok({"drain": True, "changed": False}),
        cluster_id=CLUSTER,
        drain=True,
        max_concurrency=None,
    ),
    by_owner(
        "no more",
        "set_cluster_options",
        ok({"drain": False, "max_concurrency": 10}),
        cluster_id=CLUSTER,
        drain=False,
    ),
    claimed("held back"),
)

STEPS: Sequence[Step] = (*_CANCELLED, *_STALE, *_LISTENING)
