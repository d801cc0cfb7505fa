-- What runs ends, and as much is queued anew: leases and queue stay as long as they are.
with ended as (
  delete from public.provision_leases where cluster_id = any (%(clusters)s::uuid[])
  returning provision_id, cluster_id
), finished as (
  update public.provisions p set status = 'SUCCESS', completed_at = clock_timestamp()
  from ended where p.id = ended.provision_id
)
insert into public.provisions (cluster_id, stack_key, config_snapshot, configuration_hash)
select cluster_id, gen_random_uuid()::text, %(snapshot)s::jsonb, repeat('c0', 32) from ended
