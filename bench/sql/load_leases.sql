-- Live leases over the clusters in turn, each of an agent of its own; answers them.
with running as (
  insert into public.provisions
    (cluster_id, stack_key, config_snapshot, status, attempt, claimed_by, started_at)
  select (%(clusters)s::uuid[])[1 + i %% cardinality(%(clusters)s::uuid[])],
    gen_random_uuid()::text, %(snapshot)s::jsonb, 'PROCESSING', 1, gen_random_uuid(), now()
  from generate_series(1, %(count)s) i
  returning id, cluster_id, stack_key, claimed_by
)
insert into public.provision_leases
  (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, phase, expires_at)
select id, cluster_id, stack_key, 1, claimed_by, gen_random_uuid(), 'APPLY', now() + interval '1 day'
from running
returning cluster_id::text, agent_id::text, provision_id::text
