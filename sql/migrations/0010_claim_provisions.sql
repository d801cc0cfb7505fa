-- The claim: which provision runs next, decided once. And how much waits, for autoscalers.

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
  v_stack_key text;
  v_attempt int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_claim_id is not null then
    return query select * from tendril_private.replay_claim(p_cluster_id, p_agent_id, p_claim_id);
    if found then
      return;
    end if;
  end if;
  perform from tendril_private.dead_leases d where d.cluster_id = p_cluster_id limit 1;
  if found then
    perform tendril_private.hear_agent();  -- a claim is a sign of life, too
    perform tendril_private.reap_cluster(p_cluster_id);
  end if;

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
      >= (select case when c.drain then 0 else c.max_concurrency end
        from public.clusters c where c.id = p_cluster_id) then
    return;
  end if;

  -- OFFSET 0 keeps the two checks probes of an index, one per candidate: as joins they might read
  -- the leases of every cluster.
  select p.id, p.stack_key, p.attempt + 1 into v_id, v_stack_key, v_attempt
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
    select v_id, p_cluster_id, v_stack_key, v_attempt, p_agent_id,
      coalesce(p_claim_id, gen_random_uuid()),
      -- A client without an agent id reports no phases: it may be applying at any moment.
      case when p_agent_id is null then 'APPLY' else 'PREPARE' end,
      clock_timestamp() + s.lease_ttl
    from tendril_private.settings s where s.one_row
    on conflict do nothing;
  if not found then
    return;  -- the stack was taken this moment, by another cluster or by an attempt thought lost
  end if;
  -- From here on an attempt of this stack that was given up in APPLY cannot be taken up again.
  delete from tendril_private.lost_leases l where l.stack_key = v_stack_key;
  perform tendril_private.audit('provision_claimed', p_cluster_id, v_id,
    jsonb_build_object('attempt', v_attempt), p_agent_id);
  return query update public.provisions p
    set status = 'PROCESSING', attempt = v_attempt, claimed_by = p_agent_id,
      started_at = clock_timestamp()
    where p.id = v_id
    returning p.*;
end $$;
comment on function public.fetch_next_provision(uuid, text, uuid, uuid) is
  'For agents: claim the next provision of the cluster, in order of submission; at most '
  'max_concurrency at once and one per stack. Answers its row, PROCESSING under a fresh lease, or '
  'none. Repeat with the same p_claim_id when the answer was lost.';


create function public.queue_depth(p_cluster_id uuid default null) returns table (
  cluster_id uuid, queued bigint, ready bigint, running bigint, max_concurrency int,
  oldest_queued_at timestamptz
)
language sql stable set search_path = '' as $$
  select c.id, waiting.queued, waiting.ready, active.running, c.max_concurrency,
    waiting.oldest_queued_at
  from public.clusters c
  cross join lateral (
    select count(*) as queued, count(*) filter (where p.not_before <= clock_timestamp()) as ready,
      min(p.created_at) as oldest_queued_at
    from public.provisions p where p.cluster_id = c.id and p.status = 'QUEUED') waiting
  cross join lateral (
    select count(*) as running from public.provision_leases l where l.cluster_id = c.id) active
  where p_cluster_id is null or c.id = p_cluster_id
$$;
comment on function public.queue_depth(uuid) is
  'For owners and autoscalers: of one cluster or of all that the caller sees, how many provisions are '
  'queued, how many of these are not waiting for a next attempt, how many run, and since when the '
  'oldest waits.';

revoke all on function tendril_private.replay_claim(uuid, uuid, uuid),
  public.fetch_next_provision(uuid, text, uuid, uuid),
  public.queue_depth(uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.fetch_next_provision(uuid, text, uuid, uuid) to anon;
grant execute on function public.queue_depth(uuid) to authenticated, service_role;
