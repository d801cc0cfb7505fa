-- Who did what, to which cluster and provision: written by the functions that change something, read
-- by the owner, changed by nobody.

create table public.audit_events (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  action text not null,
  actor text not null check (actor in ('agent', 'owner', 'service', 'system')),
  user_id uuid,
  agent_id uuid,
  cluster_id uuid,
  provision_id uuid,
  request_cluster_id uuid,
  token_fingerprint text check (length(token_fingerprint) <= 12),
  detail jsonb
);
comment on table public.audit_events is
  'Append-only, also for owners and for the table''s own owner. Heartbeats and log chunks are not '
  'events; a change of status that a heartbeat brings is. Names what it speaks of without foreign '
  'keys, since it outlives them.';
comment on column public.audit_events.id is 'Order of writing.';
comment on column public.audit_events.at is 'When it happened.';
comment on column public.audit_events.action is
  'What was done: cluster_registered, cluster_options_set, cluster_online, cluster_offline, '
  'token_rotated, token_revoked, agent_registered, configuration_saved, provision_created, '
  'cancel_requested, provision_claimed, provision_ended, lease_reaped, verdict_withdrawn, '
  'late_result_kept, logs_pruned, jwt_secret_set.';
comment on column public.audit_events.actor is
  'Who did it: an agent, an owner, the service (service_role, or SQL without a request), or the '
  'system: what the passage of time brings about, whoever''s call noticed it.';
comment on column public.audit_events.user_id is 'The signed-in user, for an owner''s act.';
comment on column public.audit_events.agent_id is 'The agent, as far as it says who it is.';
comment on column public.audit_events.cluster_id is 'Done to this cluster; the owner of it may read.';
comment on column public.audit_events.provision_id is 'Done to this provision.';
comment on column public.audit_events.request_cluster_id is
  'The request''s header X-Cluster-ID: what the sender said, not what was proved.';
comment on column public.audit_events.token_fingerprint is
  'At most 12 hex digits of the request''s header X-Agent-Token; compare with '
  'cluster_tokens.fingerprint. No other part of the headers is ever kept.';
comment on column public.audit_events.detail is 'What else there is to say; never a secret.';

create index audit_events_cluster on public.audit_events (cluster_id, id);

revoke all on public.audit_events from public, anon, authenticated, service_role;
revoke all on sequence public.audit_events_id_seq from public, anon, authenticated, service_role;
alter table public.audit_events enable row level security;
grant select on public.audit_events to authenticated, service_role;
create policy owner_reads on public.audit_events for select to authenticated
  using (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_reads on public.audit_events is
  'Owners see what was done to the clusters that they see.';


create function tendril_private.refuse_rewriting() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
  raise exception using errcode = 'PT422', message = 'audit events are append-only';
end $$;
comment on function tendril_private.refuse_rewriting() is
  'Raise PT422; called by the trigger append_only for everything but an insert.';

create trigger append_only before update or delete or truncate on public.audit_events
  for each statement execute function tendril_private.refuse_rewriting();
comment on trigger append_only on public.audit_events is
  'Privileges bind the API''s roles; this binds the table''s owner as well.';

create function tendril_private.audit(
  p_action text,
  p_cluster_id uuid default null,
  p_provision_id uuid default null,
  p_detail jsonb default null,
  p_agent_id uuid default null
) returns void
language plpgsql volatile set search_path = '' as $$
declare
  v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '');
  v_headers jsonb := nullif(current_setting('request.headers', true), '');
  v_said_cluster text := v_headers ->> 'x-cluster-id';
  v_user text := v_claims ->> 'sub';
begin
  insert into public.audit_events (action, actor, user_id, agent_id, cluster_id, provision_id,
      request_cluster_id, token_fingerprint, detail)
    values (p_action,
      case v_claims ->> 'role' when 'anon' then 'agent' when 'authenticated' then 'owner'
        else 'service' end,
      case when tendril_private.is_uuid(v_user) then v_user::uuid end,
      p_agent_id, p_cluster_id, p_provision_id,
      case when tendril_private.is_uuid(v_said_cluster) then v_said_cluster::uuid end,
      substring(lower(v_headers ->> 'x-agent-token') from '^[0-9a-f]{1,12}'),
      p_detail);
end $$;
comment on function tendril_private.audit(text, uuid, uuid, jsonb, uuid) is
  'Write down what the request that is being served has done.';

create function tendril_private.audit_system(
  p_action text,
  p_cluster_id uuid,
  p_provision_id uuid default null,
  p_detail jsonb default null,
  p_agent_id uuid default null
) returns void
language plpgsql volatile set search_path = '' as $$
begin
  insert into public.audit_events (action, actor, agent_id, cluster_id, provision_id, detail)
    values (p_action, 'system', p_agent_id, p_cluster_id, p_provision_id, p_detail);
end $$;
comment on function tendril_private.audit_system(text, uuid, uuid, jsonb, uuid) is
  'Write down what time has brought about. Of the request nothing is kept: it may be of another '
  'owner''s agent, whose heartbeat merely noticed.';

revoke all on function tendril_private.refuse_rewriting(),
  tendril_private.audit(text, uuid, uuid, jsonb, uuid),
  tendril_private.audit_system(text, uuid, uuid, jsonb, uuid)
  from public, anon, authenticated, service_role;
