"""What owners, schedulers and autoscalers call; after the agents' story."""

from collections.abc import Sequence

from .plane_agents import MEGABYTE, SNAPSHOT
from .plane_exchanges import (
    AGENT,
    ALICE,
    BOBS_CLUSTER,
    CLUSTER,
    NOWHERE,
    Exchange,
    Expected,
    Meanwhile,
    Step,
    by_agent,
    by_owner,
    ok,
    refused,
    rows,
)

_NO_CLUSTER = refused("PT404", "no such cluster", details=None)
NO_CONFIGURATION = refused("PT404", "no such configuration", details=None)
_NOT_SIGNED_IN = refused("PT401", "not signed in", details=None)
_NO_TOKEN = refused("PT404", "no such token", details=None)
_CLUSTER_NAME = refused("PT422", "a cluster name has 1 to 100 characters")
_CONFIGURATION_NAME = refused("PT422", "a configuration name has 1 to 100 characters")
MALFORMED = refused(
    "PT422",
    "config_snapshot is malformed",
    details="config_snapshot.template_source must be an object",
)
TOO_LARGE = refused("PT422", "config_snapshot is larger than 1 MiB")
LARGE = {**SNAPSHOT, "terraform_vars": {"x": MEGABYTE}}
_A_TOKEN = {"token": "<token>", "fingerprint": "<fingerprint>"}
_NAMELESS = {"cluster_id": CLUSTER, "config_snapshot": SNAPSHOT}
_RELEASED = "update public.clusters set last_heartbeat = now() - interval '5 min'"


_CLUSTERS: Sequence[Step] = (
    by_owner(
        "one",
        "register_cluster",
        ok({**_A_TOKEN, "expires_at": None}),
        keeps={"made": "cluster_id", "first token": "token_id"},
        name="a",
    ),
    by_owner(
        "repeated is another",
        "register_cluster",
        ok({"cluster_id": "<uuid>"}),
        name="a",
        max_concurrency=3,
    ),
    by_owner("of bob", "register_cluster", ok(_A_TOKEN), who="bob", name="b"),
    by_owner("two lines", "register_cluster", ok(_A_TOKEN), name="two\r\nlines"),
    by_owner("a megabyte", "register_cluster", _CLUSTER_NAME, name=MEGABYTE),
    by_owner(
        "too much at once",
        "register_cluster",
        refused("PT422", "max_concurrency is between 0 and 1000"),
        name="c",
        max_concurrency=1001,
    ),
    by_owner("not signed in", "register_cluster", _NOT_SIGNED_IN, who="authenticated", name="c"),
    by_owner(
        "malformed subject", "register_cluster", _NOT_SIGNED_IN, who="malformed subject", name="c"
    ),
    by_owner(
        "another's", "set_cluster_options", _NO_CLUSTER, who="bob", cluster_id=CLUSTER, drain=True
    ),
    by_owner("unknown", "set_cluster_options", _NO_CLUSTER, cluster_id=NOWHERE),
    by_owner("nothing", "set_cluster_options", ok({"changed": False}), cluster_id="<made>"),
    by_owner(
        "too much at once",
        "set_cluster_options",
        refused("PT422", "max_concurrency is between 0 and 1000"),
        cluster_id="<made>",
        max_concurrency=-1,
    ),
    by_owner("another's", "rotate_cluster_token", _NO_CLUSTER, who="bob", cluster_id="<made>"),
    by_owner(
        "in the past",
        "rotate_cluster_token",
        refused("PT422", "a token cannot expire in the past"),
        cluster_id="<made>",
        expires_at="2001-01-01T00:00:00Z",
    ),
    by_owner(
        "with an end",
        "rotate_cluster_token",
        ok({"expires_at": "<time>"}),
        cluster_id="<made>",
        expires_at="2101-01-01T00:00:00Z",
        old_expires_at="2100-01-01T00:00:00Z",
    ),
    by_owner(
        "a third",
        "rotate_cluster_token",
        refused("PT422", "two tokens are live already"),
        cluster_id="<made>",
    ),
    by_owner("another's", "revoke_cluster_token", _NO_TOKEN, who="bob", token_id="<first token>"),
    by_owner(
        "one",
        "revoke_cluster_token",
        ok({"token_id": "<first token>", "changed": True}),
        token_id="<first token>",
    ),
    by_owner("repeated", "revoke_cluster_token", ok({"changed": False}), token_id="<first token>"),
    by_owner("unknown", "revoke_cluster_token", _NO_TOKEN, token_id=NOWHERE),
)

_CONFIGURATIONS: Sequence[Step] = (
    by_owner(
        "new",
        "save_configuration",
        rows({"name": "first", "user_id": ALICE}),
        keeps={"configuration": "0.id"},
        name=" first ",
        given=_NAMELESS,
    ),
    by_owner(
        "repeated",
        "save_configuration",
        refused("PT422", "the cluster has another configuration of this name"),
        name="first",
        given=_NAMELESS,
    ),
    by_owner(
        "over it",
        "save_configuration",
        rows({"id": "<configuration>", "terraform_vars": SNAPSHOT["terraform_vars"]}),
        name="first",
        configuration_id="<configuration>",
        given=_NAMELESS,
    ),
    by_owner(
        "another's cluster", "save_configuration", _NO_CLUSTER, who="bob", name="x", given=_NAMELESS
    ),
    by_owner(
        "over another's",
        "save_configuration",
        NO_CONFIGURATION,
        who="bob",
        name="x",
        cluster_id=BOBS_CLUSTER,
        config_snapshot=SNAPSHOT,
        configuration_id="<configuration>",
    ),
    by_owner(
        "two lines",
        "save_configuration",
        rows({"name": "two\r\nlines"}),
        name="two\r\nlines",
        given=_NAMELESS,
    ),
    by_owner(
        "a megabyte of name",
        "save_configuration",
        _CONFIGURATION_NAME,
        name=MEGABYTE,
        given=_NAMELESS,
    ),
    by_owner(
        "a megabyte of snapshot",
        "save_configuration",
        TOO_LARGE,
        name="x",
        cluster_id=CLUSTER,
        config_snapshot=LARGE,
    ),
    by_owner(
        "malformed",
        "save_configuration",
        MALFORMED,
        name="x",
        cluster_id=CLUSTER,
        config_snapshot={"template_source": [MEGABYTE[:9]]},
    ),
)

_PROVISIONS: Sequence[Step] = (
    by_owner(
        "of a configuration",
        "create_provision",
        rows(
            {
                "cluster_id": CLUSTER,
                "config_snapshot": SNAPSHOT,
                "operation": "PLAN",
                "stack_key": "<configuration>",
            }
        ),
        configuration_id="<configuration>",
        operation="PLAN",
    ),
    by_owner(
        "repeated is another",
        "create_provision",
        rows({"operation": "APPLY"}),
        configuration_id="<configuration>",
        operation=None,
        config_snapshot=None,
    ),
    by_owner(
        "of another's configuration",
        "create_provision",
        NO_CONFIGURATION,
        who="bob",
        cluster_id=BOBS_CLUSTER,
        configuration_id="<configuration>",
    ),
    by_owner("another's cluster", "create_provision", _NO_CLUSTER, who="bob", given=_NAMELESS),
    by_owner(
        "without a snapshot",
        "create_provision",
        refused(
            "PT422", "config_snapshot is malformed", details="config_snapshot must be an object"
        ),
        cluster_id=CLUSTER,
    ),
    by_owner("malformed", "create_provision", MALFORMED, cluster_id=CLUSTER, config_snapshot={}),
    by_owner(
        "a megabyte of snapshot",
        "create_provision",
        TOO_LARGE,
        cluster_id=CLUSTER,
        config_snapshot=LARGE,
    ),
    by_owner(
        "a megabyte of hash",
        "create_provision",
        refused("PT422", "configuration_hash is a sha256 in hex"),
        configuration_hash=MEGABYTE,
        given=_NAMELESS,
    ),
    by_owner(
        "unknown operation with a line break",
        "create_provision",
        refused("PT422", "operation is APPLY, PLAN or DESTROY"),
        operation="PLAN\r\nX-Hostile: 1",
        given=_NAMELESS,
    ),
    by_owner(
        "unknown", "cancel_provision", refused("PT404", "no such provision"), provision_id=NOWHERE
    ),
    by_owner(
        "not signed in",
        "cancel_provision",
        _NOT_SIGNED_IN,
        who="authenticated",
        provision_id="<exact>",
    ),
)

_DEPTH = {"cluster_id": CLUSTER, "max_concurrency": 10, "running": 1, "oldest_queued_at": "<time>"}

_UPKEEP: Sequence[Step] = (
    by_owner("all of an owner", "queue_depth", ok(...), who="bob"),
    by_owner("of one cluster", "queue_depth", rows(_DEPTH), cluster_id=CLUSTER),
    by_owner("another's", "queue_depth", rows(), who="bob", cluster_id=CLUSTER),
    by_owner("of the service", "queue_depth", rows(_DEPTH), who="service_role", cluster_id=CLUSTER),
    Exchange(
        "queue_depth: by GET",
        "alice",
        f"/rpc/queue_depth?p_cluster_id={CLUSTER}",
        None,
        rows(_DEPTH),
    ),
    Exchange(
        "fetch_next_provision: by GET",
        "anon",
        f"/rpc/fetch_next_provision?p_cluster_id={CLUSTER}&p_token_hash={'a1' * 32}",
        None,
        Expected(405, {"code": "25006"}),
    ),
    by_owner("nobody is silent", "mark_offline_clusters", ok(0), who="service_role"),
    Meanwhile(_RELEASED),
    by_owner("one is silent", "mark_offline_clusters", ok(1), who="service_role", at_most=5),
    by_owner("repeated", "mark_offline_clusters", ok(0), who="service_role"),
    by_owner(
        "old ones",
        "prune_logs",
        ok({"provisions": 0, "chunks": 0}),
        who="service_role",
        older_than="30 days",
    ),
)

PRUNING: Sequence[Step] = (
    by_owner(
        "all", "prune_logs", ok({"provisions": 6, "chunks": 7}), who="service_role", older_than="0"
    ),
    by_owner(
        "repeated",
        "prune_logs",
        ok({"provisions": 0, "chunks": 0}),
        who="service_role",
        older_than="0",
        at_most=1,
    ),
    by_owner(
        "not an age",
        "prune_logs",
        refused("PT422", "p_older_than is an interval, not negative"),
        who="service_role",
        older_than="-1 day",
    ),
    by_agent(
        "after they were pruned",
        "insert_provision_logs",
        refused("PT409", "the logs of the provision were pruned"),
        provision_id="<exact>",
        attempt=1,
        agent_id=AGENT,
        first_seq=0,
        chunks=[],
    ),
    by_agent(
        "after they were pruned",
        "insert_provision_log",
        refused("PT409", "the attempt is not the caller's"),
        provision_id="<original>",
        log_chunk="x",
        stream_type="STDOUT",
    ),
)


STEPS: Sequence[Step] = (
    *_CLUSTERS,
    *_CONFIGURATIONS,
    *_PROVISIONS,
    *_UPKEEP,
)
