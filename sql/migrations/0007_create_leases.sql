-- Leases: the time-bounded right of one agent to act on one provision. The claim makes them,
-- heartbeats renew them, reaping ends those of silent agents; and an agent that was given up in mid
-- apply may take its lease up again.
--
-- Lock order everywhere: lease, then lost lease, then provision.

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

create table tendril_private.lost_leases (
  provision_id uuid primary key references public.provisions on delete cascade,
  cluster_id uuid not null,
  stack_key text not null,
  attempt int not null,
  agent_id uuid,
  claim_id uuid not null
);
comment on table tendril_private.lost_leases is
  'The lease of each attempt that was given up in APPLY, for as long as that verdict is provisional: '
  'the row goes when the attempt is taken up again, or a later provision of its stack begins.';
comment on column tendril_private.lost_leases.provision_id is 'As in provision_leases.';
comment on column tendril_private.lost_leases.cluster_id is 'As in provision_leases.';
comment on column tendril_private.lost_leases.stack_key is 'As in provision_leases; not reserved.';
comment on column tendril_private.lost_leases.attempt is 'As in provision_leases.';
comment on column tendril_private.lost_leases.agent_id is 'As in provision_leases.';
comment on column tendril_private.lost_leases.claim_id is 'As in provision_leases.';

create index lost_leases_stack on tendril_private.lost_leases (stack_key);
create index lost_leases_cluster on tendril_private.lost_leases (cluster_id);
revoke all on tendril_private.lost_leases from public, anon, authenticated, service_role;


create function tendril_private.take_up_lease(p_provision_id uuid) returns boolean
language plpgsql volatile set search_path = '' as $$
declare
  v_lost tendril_private.lost_leases;
begin
  -- First the lease, for which the claim of a later provision of the stack competes.
  insert into public.provision_leases
      (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, phase, expires_at)
    select l.provision_id, l.cluster_id, l.stack_key, l.attempt, l.agent_id, l.claim_id, 'APPLY',
      clock_timestamp() + s.lease_ttl
    from tendril_private.lost_leases l cross join tendril_private.settings s
    where s.one_row and l.provision_id = p_provision_id
    on conflict do nothing;
  if not found then
    return false;
  end if;
  delete from tendril_private.lost_leases l where l.provision_id = p_provision_id
    returning l.* into v_lost;
  if not found then  -- a later provision began, and has ended, since the statement above started
    delete from public.provision_leases l where l.provision_id = p_provision_id;
    return false;
  end if;
  update public.provisions p set status = 'PROCESSING', completed_at = null, error_code = null,
      error_message = null
    where p.id = p_provision_id;
  perform tendril_private.audit('verdict_withdrawn', v_lost.cluster_id, p_provision_id,
    jsonb_build_object('attempt', v_lost.attempt), v_lost.agent_id);
  return true;
end $$;
comment on function tendril_private.take_up_lease(uuid) is
  'An attempt that was given up in APPLY is heard again: it goes on under its old lease, unless a '
  'later provision of its stack has begun. It runs anyway, hence also beyond max_concurrency.';

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

revoke all on function tendril_private.take_up_lease(uuid),
  tendril_private.renew_leases(uuid, uuid, jsonb)
  from public, anon, authenticated, service_role;
