-- A past: half of it on the first of the clusters, the rest on the others in turn.
insert into public.provisions
  (cluster_id, stack_key, config_snapshot, configuration_hash, status, attempt, claimed_by,
   created_at, started_at, completed_at, execution_metadata)
select
  (%(clusters)s::uuid[])[case when i %% 2 = 0 then 1
    else 1 + (i / 2) %% cardinality(%(clusters)s::uuid[]) end],
  'stack ' || i %% 5000, %(snapshot)s::jsonb, repeat('c0', 32), 'SUCCESS', 1,
  'a0000000-0000-4000-8000-000000000001',
  now() - interval '1 s' * (2000000 - i), now() - interval '1 s' * (2000000 - i - 1),
  now() - interval '1 s' * (2000000 - i - 60), '{"commit": "0123456789abcdef0123456789abcdef01234567"}'
from generate_series(1, %(count)s) i
