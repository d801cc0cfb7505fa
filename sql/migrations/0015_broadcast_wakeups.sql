-- Wakeups by broadcast, where Supabase's schema "realtime" exists: they reach agents an order of
-- magnitude sooner than a change that Realtime's poller finds. They have no content: the claim is the
-- truth, a wakeup only says "look". Without the schema nothing of this is there.

create function tendril_private.broadcast(p_cluster_id uuid, p_event text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform realtime.send('{}'::jsonb, p_event, 'cluster:' || p_cluster_id::text, true);
end $$;
comment on function tendril_private.broadcast(uuid, text) is
  'Send an event without content to the private topic of a cluster. realtime.send turns its own '
  'errors into warnings, so the caller''s work never fails for want of Realtime; it must run as an '
  'owner with BYPASSRLS.';

create function tendril_private.wake_agents() returns trigger
language plpgsql volatile security definer set search_path = '' as $$
begin
  if tg_table_name = 'clusters' then
    perform tendril_private.broadcast(new.id, 'wakeup');
  elsif tg_op = 'DELETE' then
    perform tendril_private.broadcast(old.cluster_id, 'wakeup');
  else
    perform tendril_private.broadcast(new.cluster_id, 'wakeup');
  end if;
  return null;
end $$;
comment on function tendril_private.wake_agents() is
  'The agents of the row''s cluster have a reason to look.';

create function tendril_private.echo_heartbeat() returns trigger
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform tendril_private.broadcast(new.cluster_id, 'pulse');
  return null;
end $$;
comment on function tendril_private.echo_heartbeat() is
  'Each heartbeat comes back to the cluster as a broadcast: an agent that does not hear it knows that '
  'its channel is deaf.';

create function tendril_private.attach_realtime() returns boolean
language plpgsql volatile set search_path = '' as $$
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null
      or to_regprocedure('realtime.topic()') is null
      or to_regclass('realtime.messages') is null then
    return false;
  end if;

  create or replace trigger wake_on_submission after insert on public.provisions
    for each row execute function tendril_private.wake_agents();
  create or replace trigger wake_on_change
    after update of status, cancel_requested_at, force_cancel_requested_at on public.provisions
    for each row when (
      (new.status = 'QUEUED' and old.status <> 'QUEUED')
      or new.cancel_requested_at is distinct from old.cancel_requested_at
      or new.force_cancel_requested_at is distinct from old.force_cancel_requested_at)
    execute function tendril_private.wake_agents();
  create or replace trigger wake_on_release after delete on public.provision_leases
    for each row execute function tendril_private.wake_agents();
  create or replace trigger wake_on_options
    after update of drain, max_concurrency on public.clusters
    for each row when ((new.drain, new.max_concurrency) <> (old.drain, old.max_concurrency))
    execute function tendril_private.wake_agents();
  create or replace trigger echo_heartbeat
    after insert or update of last_seen on public.agents
    for each row execute function tendril_private.echo_heartbeat();

  -- The holder of agent_realtime_token hears the private topic of its own cluster, and sends nothing.
  -- (No COMMENT: Supabase lets "postgres" make policies here, but the table is not its own.)
  drop policy if exists tendril_agent_listens on realtime.messages;
  create policy tendril_agent_listens on realtime.messages for select to anon
    using (extension = 'broadcast' and realtime.topic() = 'cluster:'
      || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'cluster_id'));
  return true;
end $$;
comment on function tendril_private.attach_realtime() is
  'Make the triggers and the policy of the broadcasts, if Realtime is there; false: it is not. Call it '
  'again where Realtime was installed after the migrations; repeating it changes nothing.';

revoke all on function tendril_private.broadcast(uuid, text),
  tendril_private.wake_agents(),
  tendril_private.echo_heartbeat(),
  tendril_private.attach_realtime()
  from public, anon, authenticated, service_role;

do $$
begin
  perform tendril_private.attach_realtime();
end $$;
