-- What becomes of silent agents. Heartbeats and claims reap, so that nothing depends on a scheduler;
-- reap_leases and mark_offline_clusters are there for one all the same.

create view tendril_private.dead_leases as
  select l.provision_id, l.cluster_id
  from public.provision_leases l cross join tendril_private.settings s
  where s.one_row and l.expires_at < clock_timestamp()
    - case l.phase when 'APPLY' then s.lost_after else s.reap_grace end;
comment on view tendril_private.dead_leases is
  'Leases silent for so long that their attempt is given up.';
comment on column tendril_private.dead_leases.provision_id is 'The provision.';
comment on column tendril_private.dead_leases.cluster_id is 'Its cluster.';
revoke all on tendril_private.dead_leases from public, anon, authenticated, service_role;


create function tendril_private.reap_lease(p_provision_id uuid) returns boolean
language plpgsql volatile set search_path = '' as $$
declare
  v_lease public.provision_leases;
  v_status text;
begin
  select l.* into v_lease from public.provision_leases l
    where l.provision_id = p_provision_id for update skip locked;
  if not found then
    return false;
  end if;
  -- Again, now that nobody can renew it.
  perform from tendril_private.dead_leases d where d.provision_id = p_provision_id;
  if not found then
    return false;
  end if;
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  if v_lease.phase = 'APPLY' then
    insert into tendril_private.lost_leases
        (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id)
      values (v_lease.provision_id, v_lease.cluster_id, v_lease.stack_key, v_lease.attempt,
        v_lease.agent_id, v_lease.claim_id);
    update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST_DURING_APPLY',
      error_message = 'The agent went silent while Terraform may have been changing resources. '
        'Nothing was run again. Check the real state and the state lock before the next run.'
    where p.id = p_provision_id
    returning p.status into v_status;
  elsif exists (select from public.provisions p
      where p.id = p_provision_id and p.cancel_requested_at is not null) then
    update public.provisions p set status = 'CANCELLED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST',
      error_message = 'Cancelled; the agent went silent before it changed anything.'
    where p.id = p_provision_id
    returning p.status into v_status;
  else
    update public.provisions p set status = 'QUEUED', started_at = null,
      not_before = clock_timestamp() + least(s.retry_cap, s.retry_base * 2.0 ^ (p.attempt - 1))
        * (0.75 + random() / 2)
    from tendril_private.settings s
    where s.one_row and p.id = p_provision_id and p.attempt < p.max_attempts
    returning p.status into v_status;
    if not found then
      update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
        error_code = 'AGENT_LOST',
        error_message = format('The agent went silent in each of %s attempts, before it changed '
          'anything. Check the agent''s host, then submit again.', p.attempt)
      where p.id = p_provision_id
      returning p.status into v_status;
    end if;
  end if;
  perform tendril_private.audit_system('lease_reaped', v_lease.cluster_id, p_provision_id,
    jsonb_build_object('attempt', v_lease.attempt, 'phase', v_lease.phase, 'status', v_status),
    v_lease.agent_id);
  return true;
end $$;
comment on function tendril_private.reap_lease(uuid) is
  'Give up the attempt of a dead lease: before APPLY the provision is queued again while attempts '
  'are left; in APPLY it is FAILED, until the attempt is heard again. Answers whether it was: not if '
  'the lease is alive, or in other hands at this moment.';

create function tendril_private.hear_agent() returns boolean
language plpgsql volatile set search_path = '' as $$
declare
  v_before timestamptz;
begin
  select w.swept_at into v_before
    from tendril_private.sweeps w cross join tendril_private.settings s
    where w.one_row and s.one_row and w.swept_at < clock_timestamp() - s.sweep_every
    for update of w skip locked;
  if not found then
    return false;
  end if;
  update tendril_private.sweeps w set
      swept_at = clock_timestamp(),
      paused_until = case
        when v_before > '-infinity' and v_before < clock_timestamp() - s.outage_after
        then clock_timestamp() + s.lease_ttl else w.paused_until end
    from tendril_private.settings s
    where w.one_row and s.one_row;
  return true;
end $$;
comment on function tendril_private.hear_agent() is
  'Note that some agent is heard, at most once per settings.sweep_every; whoever notes it, sweeps: '
  'true. If none at all was heard for settings.outage_after, reaping pauses for one lease_ttl.';

create function tendril_private.may_reap() returns boolean
language sql volatile set search_path = '' as $$
  select w.paused_until <= clock_timestamp() and w.swept_at > clock_timestamp() - s.outage_after
  from tendril_private.sweeps w cross join tendril_private.settings s
  where w.one_row and s.one_row
$$;
comment on function tendril_private.may_reap() is
  'Whether agents'' silence is their own. Not while an outage of the control plane is being noted by '
  'another session, nor in the pause after it.';

create function tendril_private.reap_cluster(p_cluster_id uuid) returns void
language plpgsql volatile set search_path = '' as $$
begin
  perform from tendril_private.dead_leases d where d.cluster_id = p_cluster_id limit 1;
  if found and tendril_private.may_reap() then
    perform tendril_private.reap_lease(d.provision_id)
      from tendril_private.dead_leases d where d.cluster_id = p_cluster_id;
  end if;
end $$;
comment on function tendril_private.reap_cluster(uuid) is 'Reap the dead leases of one cluster.';

create function tendril_private.mark_offline(p_at_most int) returns int
language plpgsql volatile set search_path = '' set enable_seqscan = on as $$
declare
  v_cluster_id uuid;
  v_count int := 0;
begin
  for v_cluster_id in
    update public.clusters set status = 'OFFLINE' where id in (
      select c.id from public.clusters c cross join tendril_private.settings s
      where c.status = 'ONLINE' and c.last_heartbeat < clock_timestamp() - s.offline_after
      limit p_at_most for update of c skip locked)
    returning id
  loop
    perform tendril_private.audit_system('cluster_offline', v_cluster_id);
    v_count := v_count + 1;
  end loop;
  update public.agents a set state = 'OFFLINE' from (
      select g.cluster_id, g.id from public.agents g cross join tendril_private.settings s
      where g.state <> 'OFFLINE' and g.last_seen < clock_timestamp() - s.offline_after
      limit p_at_most for update of g skip locked) silent
    where a.cluster_id = silent.cluster_id and a.id = silent.id;
  return v_count;
end $$;
comment on function tendril_private.mark_offline(int) is
  'Mark silent clusters and agents OFFLINE; answers how many clusters.';

create function tendril_private.sweep() returns void
language plpgsql volatile set search_path = '' set enable_seqscan = on as $$
declare
  c_at_most constant int := 20;  -- a heartbeat stays short whatever happened
begin
  if tendril_private.may_reap() then
    perform tendril_private.reap_lease(dead.provision_id)
      from (select d.provision_id from tendril_private.dead_leases d limit c_at_most) dead;
    perform tendril_private.mark_offline(c_at_most);
  end if;
end $$;
comment on function tendril_private.sweep() is
  'Reap dead leases of any cluster and mark silent clusters OFFLINE, so that the lone agent of a '
  'cluster is missed too.';

create function public.reap_leases(p_at_most int default 1000) returns int
language plpgsql volatile security definer set search_path = '' as $$
begin
  -- A scheduler runs in the database, so it does not tell an outage of what stands in front of it
  -- from the silence of every agent there is, unless that lasts.
  perform from tendril_private.sweeps w cross join tendril_private.settings s
    where w.paused_until <= clock_timestamp() and (w.swept_at > clock_timestamp() - s.outage_after
      or w.swept_at < clock_timestamp() - s.lost_after);
  if not found then
    return 0;
  end if;
  return (select count(*) filter (where tendril_private.reap_lease(dead.provision_id))
    from (select d.provision_id from tendril_private.dead_leases d limit p_at_most) dead);
end $$;
comment on function public.reap_leases(int) is
  'For a scheduler: give up the attempts of dead agents of any cluster, at most so many. Answers how '
  'many it gave up.';

create function public.mark_offline_clusters(p_at_most int default 1000) returns int
language plpgsql volatile security definer set search_path = '' as $$
begin
  return tendril_private.mark_offline(p_at_most);
end $$;
comment on function public.mark_offline_clusters(int) is
  'For a scheduler: mark clusters and agents OFFLINE that were not heard for settings.offline_after, '
  'at most so many. Answers how many clusters.';

revoke all on function tendril_private.reap_lease(uuid),
  tendril_private.hear_agent(),
  tendril_private.may_reap(),
  tendril_private.reap_cluster(uuid),
  tendril_private.mark_offline(int),
  tendril_private.sweep(),
  public.reap_leases(int),
  public.mark_offline_clusters(int)
  from public, anon, authenticated, service_role;
grant execute on function public.reap_leases(int), public.mark_offline_clusters(int)
  to service_role;
