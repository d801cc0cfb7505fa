-- Claims of one cluster side by side. max_concurrency is a number of slots, and each claim takes one of
-- its own: the unique index on them is what keeps the limit, so claimers need not take turns while
-- their commits are on the way to the disk. They still do in small clusters, where turns cost nothing
-- (the few slots are a far lower bound on claims per second) and keep the order of submission exact.

alter table public.provision_leases add column slot int;
comment on column public.provision_leases.slot is
  'Which of the cluster''s slots, 1 to max_concurrency, the claim took. Beyond the limit: a greater '
  'one, after the limit was lowered, or null: taken up again (take_up_lease), or claimed before slots '
  'had numbers. While there is such a lease, claims take turns (slot_in_turn).';
create unique index provision_leases_slot on public.provision_leases (cluster_id, slot);
drop index public.provision_leases_cluster;  -- the one above begins with the same column


create function tendril_private.gate_key(p_cluster_id uuid) returns bigint
language sql immutable parallel safe
return hashtextextended('tendril gate ' || p_cluster_id::text, 0);
comment on function tendril_private.gate_key(uuid) is
  'Advisory lock of a cluster: shared by the claims in flight, held alone by who lowers its limit. '
  'Should two clusters ever have the same, they wait for each other, and nothing else.';

create function tendril_private.turn_key(p_cluster_id uuid) returns bigint
language sql immutable parallel safe
return hashtextextended('tendril turn ' || p_cluster_id::text, 0);
comment on function tendril_private.turn_key(uuid) is
  'Advisory lock of a cluster: whose turn it is to claim (slot_in_turn).';

create function tendril_private.claim_key(p_claim_id uuid) returns bigint
language sql immutable parallel safe
return hashtextextended('tendril claim ' || p_claim_id::text, 0);
comment on function tendril_private.claim_key(uuid) is
  'Advisory lock of a claim id: a claim that is sent again waits for its first sending.';

create function tendril_private.provision_key(p_provision_id uuid) returns bigint
language sql immutable parallel safe
return hashtextextended('tendril provision ' || p_provision_id::text, 0);
comment on function tendril_private.provision_key(uuid) is
  'Advisory lock of a provision: held by the claimer that is about to take it. Nobody waits for it.';

create function tendril_private.wait_for_claims() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(tendril_private.gate_key(new.id));
  return new;
end $$;
comment on function tendril_private.wait_for_claims() is
  'Let the claims in flight end first, and let no other begin before the new options are to be seen.';

create trigger wait_for_claims before update of max_concurrency, drain on public.clusters
  for each row
  when (new.max_concurrency < old.max_concurrency or new.drain > old.drain)
  execute function tendril_private.wait_for_claims();
comment on trigger wait_for_claims on public.clusters is
  'A lowered limit holds from the moment that it is to be seen: no claim is on its way under the old '
  'one.';

create function tendril_private.side_by_side_from() returns int
language sql immutable parallel safe
return 32;
comment on function tendril_private.side_by_side_from() is
  'The least max_concurrency with which claims go side by side.';

create function tendril_private.slot_in_turn(p_cluster_id uuid) returns int
language plpgsql volatile set search_path = '' as $$
begin
  -- The poll that finds nothing ends here, without a lock. ORDER BY (not EXISTS) makes the second test
  -- read one index entry.
  perform from public.clusters c where c.id = p_cluster_id and not c.drain
    and c.max_concurrency > (
      select count(*) from public.provision_leases l where l.cluster_id = c.id)
    and (c.max_concurrency < tendril_private.side_by_side_from() or exists (
      select from public.provision_leases l
      where l.cluster_id = c.id and (l.slot is null or l.slot > c.max_concurrency)));
  if not found then
    return null;
  end if;
  perform from public.provisions p
    where p.cluster_id = p_cluster_id and p.status = 'QUEUED' order by p.seq limit 1;
  if not found then
    return null;
  end if;
  -- One claimer at a time, until its commit. The statement below is a later one, so that it sees what
  -- the claimer before us committed: lock and count in one statement would count an old snapshot.
  perform pg_advisory_xact_lock(tendril_private.turn_key(p_cluster_id));
  return (select room.slot
    from public.clusters c cross join lateral (
      select generate_series(1, c.max_concurrency) as slot) room
    where c.id = p_cluster_id
      and c.max_concurrency > (
        select count(*) from public.provision_leases l where l.cluster_id = c.id)
      and not exists (
        select from public.provision_leases l
        where l.cluster_id = p_cluster_id and l.slot = room.slot offset 0)
    limit 1);
end $$;
comment on function tendril_private.slot_in_turn(uuid) is
  'A free slot of a cluster that is small, or has leases beyond its limit: by counting, one claimer '
  'after the other, each until the end of its transaction. Null: there is none, or nothing is queued, '
  'or the cluster''s claims go side by side.';

create or replace function public.fetch_next_provision(
  p_cluster_id uuid,
  p_token_hash text,
  p_agent_id uuid default null,
  p_claim_id uuid default null
) returns setof public.provisions
language plpgsql volatile security definer set search_path = ''
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
-- The plan for one cluster is the plan for all. Left to itself, Postgres makes a new one at each
-- claim, and that is a third of the claim's cost.
set plan_cache_mode = force_generic_plan as $$
declare
  v_first int;
  v_slot int;
  v_id uuid;
  v_stack_key text;
  v_attempt int;
  v_has_reaped boolean := false;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_claim_id is not null then
    perform pg_advisory_xact_lock(tendril_private.claim_key(p_claim_id));
  end if;
  -- Each statement below is a later one, so that it sees the options that we may have waited for.
  perform pg_advisory_xact_lock_shared(tendril_private.gate_key(p_cluster_id));

  loop
    -- The first free slot from a random one on: claimers rarely want the same. That it is free is
    -- enough only if no lease is beyond the limit; such a lease would be the last of the index, where
    -- null is the very last.
    v_first := (random() * 1000)::int;
    select room.slot into v_slot
    from public.clusters c cross join lateral (
      select 1 + (v_first + generate_series(1, c.max_concurrency)) % c.max_concurrency as slot) room
    where c.id = p_cluster_id and not c.drain
      and c.max_concurrency >= tendril_private.side_by_side_from()
      and coalesce(c.max_concurrency >= (
        select coalesce(l.slot, c.max_concurrency + 1) from public.provision_leases l
        where l.cluster_id = p_cluster_id order by l.slot desc limit 1), true)
      and not exists (
        select from public.provision_leases l
        where l.cluster_id = p_cluster_id and l.slot = room.slot offset 0)
    limit 1;
    if not found then
      v_slot := tendril_private.slot_in_turn(p_cluster_id);
    end if;

    -- OFFSET 0 keeps the two checks probes of an index, one per candidate: as joins they might read
    -- the leases of every cluster. The outer one passes over what another claimer is about to take. It
    -- locks no row: that would also hold a row which was claimed since this statement began, and whose
    -- agent may be reporting, while we wait for that agent's slot below.
    v_id := null;
    if v_slot is not null then
      select next.id, next.stack_key, next.attempt + 1 into v_id, v_stack_key, v_attempt
      from (
        select p.id, p.stack_key, p.attempt from public.provisions p
        where p.cluster_id = p_cluster_id and p.status = 'QUEUED'
          and p.not_before <= clock_timestamp()
          and not exists (
            select from public.provision_leases l where l.stack_key = p.stack_key offset 0)
          -- An earlier provision of the stack may be waiting for its next attempt, or be another
          -- claimer's this moment: a later one must not overtake it, or the older configuration would
          -- be applied over the newer one.
          and not exists (
            select from public.provisions earlier
            where earlier.cluster_id = p_cluster_id and earlier.stack_key = p.stack_key
              and earlier.status = 'QUEUED' and earlier.seq < p.seq offset 0)
        order by p.seq offset 0) next
      where pg_try_advisory_xact_lock(tendril_private.provision_key(next.id))
      limit 1;
    end if;
    if v_id is not null then
      -- Still as it was seen, now that no other claimer can take it?
      insert into public.provision_leases (provision_id, cluster_id, stack_key, attempt, agent_id,
          claim_id, slot, phase, expires_at)
        select v_id, p_cluster_id, v_stack_key, v_attempt, p_agent_id,
          coalesce(p_claim_id, gen_random_uuid()), v_slot,
          -- A client without an agent id reports no phases: it may be applying at any moment.
          case when p_agent_id is null then 'APPLY' else 'PREPARE' end,
          clock_timestamp() + s.lease_ttl
        from tendril_private.settings s cross join public.provisions p
        where s.one_row and p.id = v_id and p.status = 'QUEUED' and p.attempt = v_attempt - 1
        on conflict do nothing;
      if found then
        return query update public.provisions p
          set status = 'PROCESSING', attempt = v_attempt, claimed_by = p_agent_id,
            started_at = clock_timestamp()
          where p.id = v_id and p.status = 'QUEUED'
          returning p.*;
        exit when found;
        delete from public.provision_leases l where l.provision_id = v_id;  -- cancelled this moment
      end if;
    end if;

    -- No lease. The claim may have one already, from its first sending.
    if p_claim_id is not null then
      return query select * from tendril_private.replay_claim(p_cluster_id, p_agent_id, p_claim_id);
      if found then
        return;
      end if;
      perform from public.provision_leases l where l.claim_id = p_claim_id;
      if found then
        return;  -- somebody else's claim
      end if;
    end if;
    -- Or what was seen was taken this moment: the provision, the slot, or the stack, by another cluster
    -- or by an attempt thought lost; then look again. Or there is nothing, unless a dead agent has it.
    if v_id is null then
      if v_has_reaped then
        return;
      end if;
      perform from tendril_private.dead_leases d where d.cluster_id = p_cluster_id limit 1;
      if not found then
        return;
      end if;
      perform tendril_private.hear_agent();  -- a claim is a sign of life, too
      perform tendril_private.reap_cluster(p_cluster_id);
      v_has_reaped := true;
    end if;
  end loop;

  -- From here on an attempt of this stack that was given up in APPLY cannot be taken up again.
  delete from tendril_private.lost_leases l where l.stack_key = v_stack_key;
  perform tendril_private.audit('provision_claimed', p_cluster_id, v_id,
    jsonb_build_object('attempt', v_attempt), p_agent_id);
end $$;
comment on function public.fetch_next_provision(uuid, text, uuid, uuid) is
  'For agents: claim the next provision of the cluster, in order of submission; at most '
  'max_concurrency at once and one per stack. Where max_concurrency is 32 or more, claims at the same '
  'moment may overtake each other, but never within a stack. Answers its row, PROCESSING under a fresh '
  'lease, or none. Repeat with the same p_claim_id when the answer was lost.';

revoke all on function tendril_private.gate_key(uuid),
  tendril_private.turn_key(uuid),
  tendril_private.claim_key(uuid),
  tendril_private.provision_key(uuid),
  tendril_private.wait_for_claims(),
  tendril_private.side_by_side_from(),
  tendril_private.slot_in_turn(uuid),
  public.fetch_next_provision(uuid, text, uuid, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.fetch_next_provision(uuid, text, uuid, uuid) to anon;



-- What prune_logs looks for. Claims never touch this index: what they write has not ended.
create index provisions_unpruned on public.provisions (completed_at)
  where completed_at is not null and logs_pruned_at is null;

create or replace function public.prune_logs(p_older_than interval, p_at_most int default 1000)
returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  -- Read once: compared with a clock that ticks meanwhile, no index would be of use.
  v_before timestamptz := clock_timestamp() - p_older_than;
  v_ids uuid[];
  v_chunks bigint;
begin
  if p_older_than is null or p_older_than < '0' then
    raise exception using errcode = 'PT422', message = 'p_older_than is an interval, not negative';
  end if;
  with ended as (
    select p.id from public.provisions p
    where p.completed_at < v_before and p.logs_pruned_at is null
    order by p.completed_at limit p_at_most for no key update of p skip locked
  ), marked as (
    update public.provisions p set logs_pruned_at = clock_timestamp()
    from ended where p.id = ended.id returning p.id
  )
  select coalesce(array_agg(m.id), '{}') into v_ids from marked m;
  delete from tendril_private.lost_leases l where l.provision_id = any (v_ids);
  delete from public.provision_logs l where l.provision_id = any (v_ids);
  get diagnostics v_chunks = row_count;
  if v_ids <> '{}' then
    perform tendril_private.audit('logs_pruned', p_detail => jsonb_build_object(
      'provisions', cardinality(v_ids), 'chunks', v_chunks, 'older_than', p_older_than));
  end if;
  return jsonb_build_object('provisions', cardinality(v_ids), 'chunks', v_chunks);
end $$;
comment on function public.prune_logs(interval, int) is
  'For a scheduler: delete the logs of provisions that ended so long ago, the oldest first and at most '
  'of so many; whoever wrote them can deliver no more. Answers {provisions, chunks}: repeat until '
  'provisions is 0.';

revoke all on function public.prune_logs(interval, int)
  from public, anon, authenticated, service_role;
grant execute on function public.prune_logs(interval, int) to service_role;
