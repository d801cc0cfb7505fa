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
  logs_pruned_at timestamptz,
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
  'The configuration it was made from, if any; one of the same owner''s (validate_request). No foreign '
  'key: history outlives the configuration, and its id still names the stack.';
comment on column public.provisions.operation is 'APPLY, PLAN or DESTROY.';
comment on column public.provisions.stack_key is
  'Names the Terraform state: two provisions of one stack never run at once, nor out of order. '
  'Default: configuration_id, else cluster, repository and path.';
comment on column public.provisions.config_snapshot is
  'The desired state, frozen at submission. Its shape is checked then, and again by the agent.';
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
  'What the agent reports beside the outcome: commit, plan summary, cost, timings. late_result: an '
  'outcome that came when it could no longer become the status.';
comment on column public.provisions.logs_pruned_at is
  'When prune_logs deleted its logs; nothing more is taken in then.';

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
begin
  new.operation := coalesce(new.operation, 'APPLY');
  if new.operation not in ('APPLY', 'PLAN', 'DESTROY') then
    raise exception using errcode = 'PT422', message = 'operation is APPLY, PLAN or DESTROY';
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
  'Fill in what the submitter does not say: every provision starts QUEUED.';

create trigger prepare_provision before insert on public.provisions
  for each row execute function tendril_private.prepare_provision();
comment on trigger prepare_provision on public.provisions is 'Every provision starts QUEUED.';

create function tendril_private.validate_request() returns trigger
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform tendril_private.check_snapshot(new.config_snapshot);
  -- Its id names the stack: with another owner's, one could reserve that owner's stack.
  if new.configuration_id is not null and not exists (
      select from public.configurations g join public.clusters c on c.user_id = g.user_id
      where g.id = new.configuration_id and c.id = new.cluster_id) then
    raise exception using errcode = 'PT404', message = 'no such configuration';
  end if;
  return new;
end $$;
comment on function tendril_private.validate_request() is
  'Check what is submitted through the API, by whichever way: the snapshot''s shape, and that the '
  'configuration is the owner''s.';

create function tendril_private.audit_request() returns trigger
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform tendril_private.audit('provision_created', new.cluster_id, new.id, jsonb_strip_nulls(
    jsonb_build_object('operation', new.operation, 'configuration_id', new.configuration_id)));
  return null;
end $$;
comment on function tendril_private.audit_request() is
  'Write down who submitted the provision, by whichever way.';

-- A request of the API carries claims. Without any it is the database's owner who restores or loads.
create trigger validate_request before insert on public.provisions
  for each row when (coalesce(current_setting('request.jwt.claims', true), '') <> '')
  execute function tendril_private.validate_request();
comment on trigger validate_request on public.provisions is
  'What comes through the API is checked, whether by create_provision or by a direct insert.';
create trigger audit_request after insert on public.provisions
  for each row when (coalesce(current_setting('request.jwt.claims', true), '') <> '')
  execute function tendril_private.audit_request();
comment on trigger audit_request on public.provisions is
  'What comes through the API is written down.';

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
    or (old.status = 'PROCESSING' and new.status in ('QUEUED', 'SUCCESS', 'FAILED', 'CANCELLED'))
    or (old.status = 'FAILED' and new.status = 'PROCESSING' and new.attempt = old.attempt
      and old.error_code is not distinct from 'AGENT_LOST_DURING_APPLY')))
  execute function tendril_private.refuse_move();
comment on trigger legal_moves on public.provisions is
  'QUEUED to PROCESSING or CANCELLED; PROCESSING to a terminal status, or back to QUEUED when its '
  'agent was lost before APPLY; terminal statuses never change, but for one: a verdict on an agent '
  'that was silent in APPLY is withdrawn when that attempt is heard again (take_up_lease).';

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
  p_cluster_id uuid default null,
  p_config_snapshot jsonb default null,
  p_configuration_hash text default null,
  p_operation text default 'APPLY',
  p_configuration_id uuid default null
) returns setof public.provisions
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_configuration public.configurations;
  v_cluster_id uuid := p_cluster_id;
  v_snapshot jsonb := nullif(p_config_snapshot, 'null');
begin
  if p_configuration_id is not null then
    select g.* into v_configuration from public.configurations g
      where g.id = p_configuration_id and g.user_id = v_user;
    if not found then
      raise exception using errcode = 'PT404', message = 'no such configuration';
    end if;
    v_cluster_id := coalesce(v_cluster_id, v_configuration.cluster_id);
    v_snapshot := coalesce(v_snapshot, tendril_private.snapshot_of(v_configuration));
  end if;
  perform from public.clusters c where c.id = v_cluster_id and c.user_id = v_user;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return query
    insert into public.provisions
      (cluster_id, configuration_id, operation, config_snapshot, configuration_hash)
    values
      (v_cluster_id, p_configuration_id, p_operation, v_snapshot, p_configuration_hash)
    returning *;
end $$;
comment on function public.create_provision(uuid, jsonb, text, text, uuid) is
  'For owners: queue a provision of a snapshot, of a configuration as it was saved last, or of a '
  'snapshot that was made from a configuration. Answers its row. PT422 names a malformed field in its '
  'details.';

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
  if v_after is distinct from v_before then
    perform tendril_private.audit('cancel_requested', v_after.cluster_id, p_provision_id,
      jsonb_build_object('force', v_after.force_cancel_requested_at is not null));
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
  tendril_private.validate_request(),
  tendril_private.audit_request(),
  tendril_private.refuse_move(),
  tendril_private.cancel_level(timestamptz, timestamptz),
  public.create_provision(uuid, jsonb, text, text, uuid),
  public.cancel_provision(uuid, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.create_provision(uuid, jsonb, text, text, uuid),
  public.cancel_provision(uuid, boolean)
  to authenticated;
