-- A claim that leaves the same rows behind as ours in the same tables (lease, provision, audit event)
-- and checks nothing: no token, no limit, no stack, no replay.
with next as materialized (
  select p.id from public.provisions p
  where p.cluster_id = %(cluster)s and p.status = 'QUEUED'
  order by p.seq limit 1
  for update skip locked
), claimed as (
  update public.provisions p
  set status = 'PROCESSING', attempt = p.attempt + 1, claimed_by = %(agent)s,
    started_at = clock_timestamp()
  from next where p.id = next.id
  returning p.*
), lease as (
  insert into public.provision_leases
    (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, expires_at)
  select c.id, c.cluster_id, c.stack_key, c.attempt, %(agent)s, %(claim)s,
    clock_timestamp() + interval '90 s'
  from claimed c
), event as (
  insert into public.audit_events (action, actor, agent_id, cluster_id, provision_id, detail)
  select 'provision_claimed', 'agent', %(agent)s, c.cluster_id, c.id,
    jsonb_build_object('attempt', c.attempt)
  from claimed c
)
select * from claimed
