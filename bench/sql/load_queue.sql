-- As many queued provisions as asked for, over the clusters in turn, each of a stack of its own.
insert into public.provisions (cluster_id, stack_key, config_snapshot, configuration_hash)
select (%(clusters)s::uuid[])[1 + i %% cardinality(%(clusters)s::uuid[])],
  gen_random_uuid()::text, %(snapshot)s::jsonb, repeat('c0', 32)
from generate_series(1, %(count)s) i
