-- Upkeep by pg_cron, where it exists. Nothing depends on it: heartbeats and claims reap as well. It is
-- what notices that the very last agent has gone, and what deletes old logs.

create function tendril_private.schedule_upkeep() returns boolean
language plpgsql volatile set search_path = '' as $$
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return false;
  end if;
  perform cron.schedule('tendril reap leases', '* * * * *', 'select public.reap_leases()');
  perform cron.schedule('tendril mark offline clusters', '* * * * *',
    'select public.mark_offline_clusters()');
  perform cron.schedule('tendril prune logs', '17 * * * *',
    'select public.prune_logs(s.log_retention) from tendril_private.settings s');
  return true;
end $$;
comment on function tendril_private.schedule_upkeep() is
  'Schedule the upkeep, if the extension pg_cron is there; false: it is not. Call it again where '
  'pg_cron was installed after the migrations; a schedule of the same name is replaced.';

revoke all on function tendril_private.schedule_upkeep()
  from public, anon, authenticated, service_role;

do $$
begin
  perform tendril_private.schedule_upkeep();
end $$;

-- PostgREST keeps a cache of what exists.
notify pgrst, 'reload schema';
