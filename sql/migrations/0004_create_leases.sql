-- Leases: the time-bounded right of one agent to act on one provision. Heartbeats renew them, the
-- claim makes them, reaping ends those of silent agents.
--
-- Lock order everywhere: lease, then provision.

create table public.provision_leases (
  provision_id uuid primary key references public.provisions on delete cascade,
  cluster_id uuid not null,
  stack_key text not null,
  attempt int not null,
  agent_id uuid,
  claim_id uuid not null unique,
  phase text not null default 'PREPARE' check (phase in ('PREPARE', 'PLAN', 'APPLY')),
  expires_at timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
comment on table public.provision_leases is
  'One row per running provision; no other provision of its stack can start while it exists. '
  'Rewritten by every heartbeat, hence small, unpublished and without an index on expires_at.';
comment on column public.provision_leases.provision_id is 'The provision that runs.';
comment on column public.provision_leases.cluster_id is 'Where it runs; counts to max_concurrency.';
comment on column public.provision_leases.stack_key is 'The stack that it reserves.';
comment on column public.provision_leases.attempt is
  'With agent_id the fencing token: calls with another are refused.';
comment on column public.provision_leases.agent_id is
  'Who runs it; null: a client that sends no agent id.';
comment on column public.provision_leases.claim_id is
  'The claim that made it; the same claim repeated gets the same answer.';
comment on column public.provision_leases.phase is
  'How far the attempt is; never goes back. An attempt in APPLY is never repeated.';
comment on column public.provision_leases.expires_at is
  'The agent is silent from then on. Not yet dead: it may still renew while the row exists.';

create unique index provision_leases_stack on public.provision_leases (stack_key);
create index provision_leases_cluster on public.provision_leases (cluster_id);

revoke all on public.provision_leases from public, anon, authenticated, service_role;
alter table public.provision_leases enable row level security;
grant select on public.provision_leases to authenticated, service_role;
create policy owner_reads on public.provision_leases for select to authenticated
  using (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_reads on public.provision_leases is
  'Owners see the leases of the clusters that they see.';

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


create function tendril_private.reap_lease(p_provision_id uuid) returns void
language plpgsql volatile set search_path = '' as $$
declare
  v_phase text;
begin
  select l.phase into v_phase from public.provision_leases l
    where l.provision_id = p_provision_id for update skip locked;
  if not found then
    return;
  end if;
  -- Again, now that nobody can renew it.
  perform from tendril_private.dead_leases d where d.provision_id = p_provision_id;
  if not found then
    return;
  end if;
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  if v_phase = 'APPLY' then
    update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST_DURING_APPLY',
      error_message = 'The agent went silent while Terraform may have been changing resources. '
        'Nothing was run again. Check the real state and the state lock before the next run.'
    where p.id = p_provision_id;
  elsif exists (select from public.provisions p
      where p.id = p_provision_id and p.cancel_requested_at is not null) then
    update public.provisions p set status = 'CANCELLED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST',
      error_message = 'Cancelled; the agent went silent before it changed anything.'
    where p.id = p_provision_id;
  else
    update public.provisions p set status = 'QUEUED', started_at = null,
      not_before = clock_timestamp() + least(s.retry_cap, s.retry_base * 2.0 ^ (p.attempt - 1))
        * (0.75 + random() / 2)
    from tendril_private.settings s
    where s.one_row and p.id = p_provision_id and p.attempt < p.max_attempts;
    if not found then
      update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
        error_code = 'AGENT_LOST',
        error_message = format('The agent went silent in each of %s attempts, before it changed '
          'anything. Check the agent''s host, then submit again.', p.attempt)
      where p.id = p_provision_id;
    end if;
  end if;
end $$;
comment on function tendril_private.reap_lease(uuid) is
  'Give up the attempt of a dead lease: before APPLY the provision is queued again while attempts '
  'are left; in APPLY it is FAILED. Does nothing if the lease is alive or in other hands.';

create function tendril_private.sweep() returns void
language plpgsql volatile set search_path = '' set enable_seqscan = on as $$
declare
  c_at_most constant int := 20;  -- a heartbeat stays short whatever happened
begin
  perform from tendril_private.sweeps w cross join tendril_private.settings s
    where w.swept_at < clock_timestamp() - s.sweep_every
    for update of w skip locked;
  if not found then
    return;
  end if;
  update tendril_private.sweeps set swept_at = clock_timestamp();
  perform tendril_private.reap_lease(dead.provision_id)
    from (select d.provision_id from tendril_private.dead_leases d limit c_at_most) dead;
  update public.clusters set status = 'OFFLINE' where id in (
    select c.id from public.clusters c cross join tendril_private.settings s
    where c.status = 'ONLINE' and c.last_heartbeat < clock_timestamp() - s.offline_after
    limit c_at_most for update of c skip locked);
end $$;
comment on function tendril_private.sweep() is
  'Reap dead leases of any cluster and mark silent clusters OFFLINE, so that the lone agent of a '
  'cluster is missed too. Cheap: at most once per settings.sweep_every, whoever calls.';

create function tendril_private.renew_leases(p_cluster_id uuid, p_agent_id uuid, p_leases jsonb)
returns jsonb
language sql volatile set search_path = '' as $$
  with listed as (
    select (x.item ->> 'provision_id')::uuid as provision_id, (x.item ->> 'attempt')::int as attempt,
      x.item ->> 'phase' as phase, x.position
    from jsonb_array_elements(p_leases) with ordinality as x (item, position)
  ), held as materialized (  -- locked in one order, or two heartbeats of one agent could deadlock
    select l.provision_id, listed.phase
    from public.provision_leases l join listed using (provision_id, attempt)
    where l.cluster_id = p_cluster_id and l.agent_id = p_agent_id
    order by l.provision_id for update of l
  ), renewed as (
    update public.provision_leases l set
      expires_at = clock_timestamp() + s.lease_ttl,
      -- A heartbeat that was overtaken on its way must not take an announced APPLY back.
      phase = case when array_position('{PREPARE,PLAN,APPLY}', held.phase)
          > array_position('{PREPARE,PLAN,APPLY}', l.phase)
        then held.phase else l.phase end
    from held cross join tendril_private.settings s
    where s.one_row and l.provision_id = held.provision_id
    returning l.provision_id, l.attempt
  )
  select coalesce(jsonb_agg(jsonb_build_object(
      'provision_id', listed.provision_id,
      'attempt', listed.attempt,
      'held', renewed.provision_id is not null,
      'cancel', coalesce((  -- not a join, which might read every provision of the cluster
        select tendril_private.cancel_level(p.cancel_requested_at, p.force_cancel_requested_at)
        from public.provisions p
        where p.id = listed.provision_id and p.cluster_id = p_cluster_id), 'none')
    ) order by listed.position), '[]')
  from listed left join renewed using (provision_id, attempt)
$$;
comment on function tendril_private.renew_leases(uuid, uuid, jsonb) is
  'Renew the listed leases of one agent and say of each whether it is held and what was asked.';

create function public.agent_heartbeat(
  p_cluster_id uuid,
  p_token_hash text,
  p_agent jsonb default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  v_agent jsonb := nullif(p_agent, 'null');
  v_leases jsonb := '[]';
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  update public.cluster_tokens t set last_used_at = now()
    where t.cluster_id = p_cluster_id and t.verifier = tendril_private.verifier_of(p_token_hash)
      and (t.last_used_at is null or t.last_used_at < now() - interval '1 min');
  update public.clusters c set status = 'ONLINE', last_heartbeat = clock_timestamp()
    from tendril_private.settings s
    where s.one_row and c.id = p_cluster_id
      and (c.status <> 'ONLINE' or c.last_heartbeat is null
        or c.last_heartbeat < clock_timestamp() - s.beat_coalescing);
  if v_agent is null then
    perform from public.provision_leases l
      where l.cluster_id = p_cluster_id and l.agent_id is null
      order by l.provision_id for update;
    update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl
      from tendril_private.settings s
      where s.one_row and l.cluster_id = p_cluster_id and l.agent_id is null;
  else
    perform tendril_private.check_agent(v_agent);
    v_leases := tendril_private.renew_leases(
      p_cluster_id, (v_agent ->> 'id')::uuid, coalesce(v_agent -> 'leases', '[]'));
  end if;
  perform tendril_private.reap_lease(d.provision_id)
    from tendril_private.dead_leases d where d.cluster_id = p_cluster_id;
  perform tendril_private.sweep();
  return (select jsonb_build_object(
      'leases', v_leases,
      'drain', false,
      'server_time', clock_timestamp(),
      'lease_ttl_s', trim_scale(extract(epoch from s.lease_ttl)))
    from tendril_private.settings s where s.one_row);
end $$;
comment on function public.agent_heartbeat(uuid, text, jsonb) is
  'For agents, every 30 s: the cluster is ONLINE; the listed leases live on. p_agent: {id, hostname, '
  'version, state: ONLINE|DRAINING, capacity, leases: [{provision_id, attempt, phase}]}; without it '
  'all leases of the cluster that were claimed without an agent id are renewed. Answers {leases: '
  '[{provision_id, attempt, held, cancel: none|graceful|force}], drain, server_time, lease_ttl_s}. '
  'held = false: superseded, stop.';

create function tendril_private.check_agent(p_agent jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  v_leases jsonb := coalesce(p_agent -> 'leases', '[]');
begin
  if jsonb_typeof(p_agent) <> 'object' or not tendril_private.is_uuid(p_agent ->> 'id') then
    raise exception using errcode = 'PT422', message = 'p_agent is an object with a uuid id';
  end if;
  if jsonb_typeof(v_leases) <> 'array' or jsonb_array_length(v_leases) > 1000 then
    raise exception using errcode = 'PT422', message = 'p_agent.leases is a list of at most 1000';
  end if;
  perform from jsonb_array_elements(v_leases) as x (item)
    where jsonb_typeof(x.item) <> 'object'
      or not tendril_private.is_uuid(x.item ->> 'provision_id')
      or coalesce(x.item ->> 'attempt', '') !~ '^[0-9]{1,9}$'
      or coalesce(x.item ->> 'phase', 'PREPARE') not in ('PREPARE', 'PLAN', 'APPLY');
  if found then
    raise exception using errcode = 'PT422',
      message = 'a lease in p_agent.leases is {provision_id, attempt, phase}',
      hint = 'phase is PREPARE, PLAN or APPLY';
  end if;
end $$;
comment on function tendril_private.check_agent(jsonb) is
  'Raise PT422 unless the heartbeat''s p_agent has the shape that is read.';

create function tendril_private.replay_claim(
  p_cluster_id uuid, p_agent_id uuid, p_claim_id uuid
) returns setof public.provisions
language plpgsql volatile set search_path = '' as $$
declare
  v_id uuid;
begin
  update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl
    from tendril_private.settings s
    where s.one_row and l.claim_id = p_claim_id and l.cluster_id = p_cluster_id
      and l.agent_id is not distinct from p_agent_id
    returning l.provision_id into v_id;
  return query select p.* from public.provisions p where p.id = v_id;
end $$;
comment on function tendril_private.replay_claim(uuid, uuid, uuid) is
  'What an earlier call with this claim id took, with its lease renewed: a lost answer loses nothing.';

create function public.fetch_next_provision(
  p_cluster_id uuid,
  p_token_hash text,
  p_agent_id uuid default null,
  p_claim_id uuid default null
) returns setof public.provisions
language plpgsql volatile security definer set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
declare
  v_id uuid;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_claim_id is not null then
    return query select * from tendril_private.replay_claim(p_cluster_id, p_agent_id, p_claim_id);
    if found then
      return;
    end if;
  end if;
  perform tendril_private.reap_lease(d.provision_id)
    from tendril_private.dead_leases d where d.cluster_id = p_cluster_id;

  -- The empty poll ends here, without a lock. ORDER BY (not EXISTS) makes it read one index entry.
  perform from public.provisions p
    where p.cluster_id = p_cluster_id and p.status = 'QUEUED' order by p.seq limit 1;
  if not found then
    return;
  end if;

  -- One claimer per cluster at a time. Each statement below is its own, so that it sees what the
  -- claimer before us committed: lock and count in one statement would count an old snapshot.
  perform pg_advisory_xact_lock(hashtextextended('tendril claim ' || p_cluster_id::text, 0));
  if p_claim_id is not null then  -- its first sending may have been the claimer before us
    return query select * from tendril_private.replay_claim(p_cluster_id, p_agent_id, p_claim_id);
    if found then
      return;
    end if;
  end if;
  if (select count(*) from public.provision_leases l where l.cluster_id = p_cluster_id)
      >= (select c.max_concurrency from public.clusters c where c.id = p_cluster_id) then
    return;
  end if;

  -- OFFSET 0 keeps the two checks probes of an index, one per candidate: as joins they might read
  -- the leases of every cluster.
  select p.id into v_id
  from public.provisions p
  where p.cluster_id = p_cluster_id and p.status = 'QUEUED'
    and p.not_before <= clock_timestamp()
    and not exists (
      select from public.provision_leases l where l.stack_key = p.stack_key offset 0)
    -- While an earlier provision of the stack waits for its next attempt, a later one must not
    -- overtake it: the older configuration would then be applied over the newer one.
    and not exists (
      select from public.provisions earlier
      where earlier.cluster_id = p_cluster_id and earlier.stack_key = p.stack_key
        and earlier.status = 'QUEUED' and earlier.seq < p.seq offset 0)
  order by p.seq limit 1
  for no key update of p skip locked;
  if not found then
    return;
  end if;

  insert into public.provision_leases
      (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, phase, expires_at)
    select p.id, p.cluster_id, p.stack_key, p.attempt + 1, p_agent_id,
      coalesce(p_claim_id, gen_random_uuid()),
      -- A client without an agent id reports no phases: it may be applying at any moment.
      case when p_agent_id is null then 'APPLY' else 'PREPARE' end,
      clock_timestamp() + s.lease_ttl
    from public.provisions p cross join tendril_private.settings s
    where s.one_row and p.id = v_id
    on conflict do nothing;
  if not found then
    return;  -- the stack was taken this moment through another cluster
  end if;
  return query update public.provisions p
    set status = 'PROCESSING', attempt = p.attempt + 1, claimed_by = p_agent_id,
      started_at = clock_timestamp()
    where p.id = v_id
    returning p.*;
end $$;
comment on function public.fetch_next_provision(uuid, text, uuid, uuid) is
  'For agents: claim the next provision of the cluster, in order of submission; at most '
  'max_concurrency at once and one per stack. Answers its row, PROCESSING under a fresh lease, or '
  'none. Repeat with the same p_claim_id when the answer was lost.';

revoke all on function tendril_private.reap_lease(uuid),
  tendril_private.sweep(),
  tendril_private.renew_leases(uuid, uuid, jsonb),
  tendril_private.check_agent(jsonb),
  tendril_private.replay_claim(uuid, uuid, uuid),
  public.agent_heartbeat(uuid, text, jsonb),
  public.fetch_next_provision(uuid, text, uuid, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.agent_heartbeat(uuid, text, jsonb),
  public.fetch_next_provision(uuid, text, uuid, uuid)
  to anon;
