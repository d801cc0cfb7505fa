-- A control plane with a past: a long queue and a long history here, many leases elsewhere.
insert into public.clusters (user_id, name, max_concurrency)
  select tests.bob(), 'crowd ' || i, 100 from generate_series(1, 50) i;
insert into public.provisions (cluster_id, configuration_id, config_snapshot)
  select tests.cluster(), gen_random_uuid(), '{}' from generate_series(1, 10000);
update public.provisions set status = 'CANCELLED', completed_at = now()
  where seq % 2 = 0 and status = 'QUEUED';
insert into public.provisions (cluster_id, configuration_id, config_snapshot)
  select c.id, gen_random_uuid(), '{}'
  from public.clusters c, generate_series(1, 60) where c.name like 'crowd %';
insert into public.provision_leases
    (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, expires_at)
  select p.id, p.cluster_id, p.stack_key, 1, gen_random_uuid(), gen_random_uuid(),
    now() + interval '1 hour'
  from public.provisions p join public.clusters c on c.id = p.cluster_id
  where c.name like 'crowd %';
update public.provisions p set status = 'PROCESSING', attempt = 1, started_at = now()
  from public.provision_leases l where l.provision_id = p.id;
