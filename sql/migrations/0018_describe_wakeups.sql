-- The triggers of the wakeups say what they are for, like everything else here.

create or replace function tendril_private.attach_realtime() returns boolean
language plpgsql volatile set search_path = '' as $$
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null
      or to_regprocedure('realtime.topic()') is null
      or to_regclass('realtime.messages') is null then
    return false;
  end if;

  create or replace trigger wake_on_submission after insert on public.provisions
    for each row execute function tendril_private.wake_agents();
  comment on trigger wake_on_submission on public.provisions is
    'There is something to claim. Only where Supabase''s schema "realtime" is, like each wakeup.';
  create or replace trigger wake_on_change
    after update of status, cancel_requested_at, force_cancel_requested_at on public.provisions
    for each row when (
      (new.status = 'QUEUED' and old.status <> 'QUEUED')
      or new.cancel_requested_at is distinct from old.cancel_requested_at
      or new.force_cancel_requested_at is distinct from old.force_cancel_requested_at)
    execute function tendril_private.wake_agents();
  comment on trigger wake_on_change on public.provisions is
    'It is queued again, or it is to be cancelled.';
  create or replace trigger wake_on_release after delete on public.provision_leases
    for each row execute function tendril_private.wake_agents();
  comment on trigger wake_on_release on public.provision_leases is
    'Its stack is free, and a place in the cluster.';
  create or replace trigger wake_on_options
    after update of drain, max_concurrency on public.clusters
    for each row when ((new.drain, new.max_concurrency) <> (old.drain, old.max_concurrency))
    execute function tendril_private.wake_agents();
  comment on trigger wake_on_options on public.clusters is
    'Its agents may take more, or shall take less.';
  create or replace trigger echo_heartbeat
    after insert or update of last_seen on public.agents
    for each row execute function tendril_private.echo_heartbeat();
  comment on trigger echo_heartbeat on public.agents is
    'What an agent must hear after its heartbeat; else its channel is deaf.';

  -- The holder of agent_realtime_token hears the private topic of its own cluster, and sends nothing.
  -- (No COMMENT: Supabase lets "postgres" make policies here, but the table is not its own.)
  drop policy if exists tendril_agent_listens on realtime.messages;
  create policy tendril_agent_listens on realtime.messages for select to anon
    using (extension = 'broadcast' and realtime.topic() = 'cluster:'
      || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'cluster_id'));
  return true;
end $$;

revoke all on function tendril_private.attach_realtime() from public, anon, authenticated, service_role;

do $$
begin
  perform tendril_private.attach_realtime();
end $$;
