with finished as (
  update public.provisions p set status = 'SUCCESS', completed_at = clock_timestamp()
  where p.id = any (%(claimed)s::uuid[])
  returning p.cluster_id
)
insert into public.provisions (cluster_id, stack_key, config_snapshot, configuration_hash)
select cluster_id, gen_random_uuid()::text, %(snapshot)s::jsonb, repeat('c0', 32) from finished
