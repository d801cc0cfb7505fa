-- Provisions: the queue and the history. Owners submit and cancel; everything else moves through
-- the agents' functions.

create table public.provisions (
  id uuid primary key default gen_random_uuid(),
  seq bigint generated always as identity,
  cluster_id uuid not null references public.clusters,
  configuration_id uuid,
  operation text not null default 'APPLY' check (operation in ('APPLY', 'PLAN', 'DESTROY')),
  stack_key text not null,
  config_snapshot jsonb not null,
  configuration_hash text,
  status text not null default 'QUEUED'
    check (status in ('QUEUED', 'PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED')),
  attempt int not null default 0 check (attempt >= 0),
  max_attempts int not null default 3 check (max_attempts between 1 and 20),
  not_before timestamptz not null default now(),
  claimed_by uuid,
  cancel_requested_at timestamptz,
  force_cancel_requested_at timestamptz,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  error_message text check (length(error_message) <= 8192),
  error_code text check (length(error_code) <= 100),
  execution_metadata jsonb not null default '{}',
  check ((completed_at is not null) = (status in ('SUCCESS', 'FAILED', 'CANCELLED'))),
  check (status <> 'PROCESSING' or (attempt > 0 and started_at is not null))
) with (
  fillfactor = 85,
  autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,
  autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 250
);
comment on table public.provisions is
  'Requested units of work. Owners read their own and may insert what they ask for (see '
  'prepare_provision); status moves only through functions.';
comment on column public.provisions.id is 'Names the provision everywhere.';
comment on column public.provisions.seq is 'Order of submission; claims follow it.';
comment on column public.provisions.cluster_id is 'Where it runs.';
comment on column public.provisions.configuration_id is
  'The configuration it was made from, if any.';
comment on column public.provisions.operation is 'APPLY, PLAN or DESTROY.';
comment on column public.provisions.stack_key is
  'Names the Terraform state: two provisions of one stack never run at once, nor out of order. '
  'Default: configuration_id, else cluster, repository and path.';
comment on column public.provisions.config_snapshot is
  'The desired state, frozen at submission; its shape is checked by the agent.';
comment on column public.provisions.configuration_hash is
  'sha256 (hex) of the snapshot''s RFC 8785 form, made by the submitter, never by the database: a '
  'hash that is computed here would protect nothing.';
comment on column public.provisions.status is
  'QUEUED, PROCESSING, then SUCCESS, FAILED or CANCELLED for good.';
comment on column public.provisions.attempt is
  'Number of claims so far; together with claimed_by the fencing token of the current attempt.';
comment on column public.provisions.max_attempts is
  'Attempts allowed. Only attempts lost before APPLY are repeated at all.';
comment on column public.provisions.not_before is 'Not claimed before then (backoff).';
comment on column public.provisions.claimed_by is
  'Agent of the current attempt, kept after its end: it may still deliver logs. Null: not claimed, '
  'or claimed by a client that sends no agent id.';
comment on column public.provisions.cancel_requested_at is 'When cancellation was first asked for.';
comment on column public.provisions.force_cancel_requested_at is
  'When forced cancellation was first asked for.';
comment on column public.provisions.created_at is 'When it was submitted.';
comment on column public.provisions.started_at is 'When the current attempt was claimed.';
comment on column public.provisions.completed_at is 'When it reached its terminal status.';
comment on column public.provisions.error_message is
  'For people: what failed and how to mend it; at most 8192 characters.';
comment on column public.provisions.error_code is 'For programs: a stable upper-case word.';
comment on column public.provisions.execution_metadata is
  'What the agent reports beside the outcome: commit, plan summary, cost, timings.';

create index provisions_queue on public.provisions (cluster_id, seq) where status = 'QUEUED';
create index provisions_stack_queue on public.provisions (cluster_id, stack_key, seq)
  where status = 'QUEUED';
create index provisions_history on public.provisions (cluster_id, created_at desc);

revoke all on public.provisions from public, anon, authenticated, service_role;
revoke all on sequence public.provisions_seq_seq from public, anon, authenticated, service_role;
alter table public.provisions enable row level security;
grant select on public.provisions to authenticated, service_role;
grant insert (cluster_id, configuration_id, config_snapshot, configuration_hash, operation)
  on public.provisions to authenticated, service_role;
-- All that an agent's Realtime subscription may see: the snapshot never travels on the socket.
grant select (id, cluster_id, status, created_at) on public.provisions to anon;

create policy agent_listens on public.provisions for select to anon
  using (cluster_id::text
    = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'cluster_id');
comment on policy agent_listens on public.provisions is
  'The holder of agent_realtime_token hears of provisions of its cluster. Compared as text: a cast '
  'of the claim would let one malformed token break the poller for every subscriber.';
create policy owner_reads on public.provisions for select to authenticated
  using (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_reads on public.provisions is
  'Owners see the provisions of the clusters that they see.';
create policy owner_submits on public.provisions for insert to authenticated
  with check (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_submits on public.provisions is
  'Owners queue provisions for the clusters that they see.';


create function tendril_private.prepare_provision() returns trigger
language plpgsql volatile set search_path = '' as $$
declare
  c_snapshot_bytes constant int := 1048576;
begin
  new.operation := coalesce(new.operation, 'APPLY');
  if new.operation not in ('APPLY', 'PLAN', 'DESTROY') then
    raise exception using errcode = 'PT422', message = 'operation is APPLY, PLAN or DESTROY';
  end if;
  if jsonb_typeof(new.config_snapshot) is distinct from 'object' then
    raise exception using errcode = 'PT422', message = 'config_snapshot is a JSON object';
  end if;
  if octet_length(new.config_snapshot::text) > c_snapshot_bytes then
    raise exception using errcode = 'PT422', message = 'config_snapshot is larger than 1 MiB';
  end if;
  if length(new.configuration_hash) > 128 then
    raise exception using errcode = 'PT422', message = 'configuration_hash is a sha256 in hex';
  end if;
  new.stack_key := coalesce(
    new.stack_key,
    new.configuration_id::text,
    concat_ws('/', new.cluster_id::text,
      new.config_snapshot #>> '{template_source,repo}',
      new.config_snapshot #>> '{template_source,path}'));
  new.status := 'QUEUED';
  new.attempt := 0;
  return new;
end $$;
comment on function tendril_private.prepare_provision() is
  'Check what is submitted, by whichever way, and fill in the rest: every provision starts QUEUED.';

create trigger prepare_provision before insert on public.provisions
  for each row execute function tendril_private.prepare_provision();
comment on trigger prepare_provision on public.provisions is 'Every provision starts QUEUED.';

create function tendril_private.refuse_move() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
  raise exception using errcode = 'PT409', message = 'illegal move of a provision''s status',
    detail = format('%s -> %s', old.status, new.status);
end $$;
comment on function tendril_private.refuse_move() is
  'Raise PT409; called by the trigger legal_moves for those that are not.';

create trigger legal_moves before update of status on public.provisions
  for each row
  when (old.status <> new.status and not (
    (old.status = 'QUEUED' and new.status in ('PROCESSING', 'CANCELLED'))
    or (old.status = 'PROCESSING' and new.status in ('QUEUED', 'SUCCESS', 'FAILED', 'CANCELLED'))))
  execute function tendril_private.refuse_move();
comment on trigger legal_moves on public.provisions is
  'QUEUED to PROCESSING or CANCELLED; PROCESSING to a terminal status, or back to QUEUED when its '
  'agent was lost before APPLY; terminal statuses never change.';

create function tendril_private.cancel_level(p_requested timestamptz, p_forced timestamptz)
returns text
language sql immutable parallel safe
return case
  when p_forced is not null then 'force'
  when p_requested is not null then 'graceful'
  else 'none'
end;
comment on function tendril_private.cancel_level(timestamptz, timestamptz) is
  'What agents are told: none, graceful or force.';

create function public.create_provision(
  p_cluster_id uuid,
  p_config_snapshot jsonb,
  p_configuration_hash text default null,
  p_operation text default 'APPLY',
  p_configuration_id uuid default null
) returns setof public.provisions
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
begin
  perform from public.clusters c where c.id = p_cluster_id and c.user_id = v_user;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return query
    insert into public.provisions
      (cluster_id, configuration_id, operation, config_snapshot, configuration_hash)
    values
      (p_cluster_id, p_configuration_id, p_operation, p_config_snapshot, p_configuration_hash)
    returning *;
end $$;
comment on function public.create_provision(uuid, jsonb, text, text, uuid) is
  'For owners: queue a provision. Answers its row.';

create function public.cancel_provision(p_provision_id uuid, p_force boolean default false)
returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_before public.provisions;
  v_after public.provisions;
begin
  select p.* into v_before
  from public.provisions p join public.clusters c on c.id = p.cluster_id
  where p.id = p_provision_id and c.user_id = v_user
  for no key update of p;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  v_after := v_before;
  if v_before.status in ('QUEUED', 'PROCESSING') then
    update public.provisions p set
      cancel_requested_at = coalesce(p.cancel_requested_at, clock_timestamp()),
      force_cancel_requested_at = case when coalesce(p_force, false)
        then coalesce(p.force_cancel_requested_at, clock_timestamp())
        else p.force_cancel_requested_at end,
      status = case p.status when 'QUEUED' then 'CANCELLED' else p.status end,
      completed_at = case p.status when 'QUEUED' then clock_timestamp() end
    where p.id = p_provision_id
    returning p.* into v_after;
  end if;
  return jsonb_build_object(
    'status', v_after.status,
    'changed', v_after is distinct from v_before,
    'cancel', tendril_private.cancel_level(
      v_after.cancel_requested_at, v_after.force_cancel_requested_at));
end $$;
comment on function public.cancel_provision(uuid, boolean) is
  'For owners: a queued provision is CANCELLED at once, a running one is told to stop, an ended one '
  'stays as it is. Answers {status, changed, cancel: none|graceful|force}.';

revoke all on function tendril_private.prepare_provision(),
  tendril_private.refuse_move(),
  tendril_private.cancel_level(timestamptz, timestamptz),
  public.create_provision(uuid, jsonb, text, text, uuid),
  public.cancel_provision(uuid, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.create_provision(uuid, jsonb, text, text, uuid),
  public.cancel_provision(uuid, boolean)
  to authenticated;
