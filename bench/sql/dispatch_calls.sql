-- Calls so far of the functions that agents call; needs track_functions.
select coalesce(sum(calls), 0)::int as calls from pg_stat_user_functions
where schemaname = 'public' and funcname in (
  'agent_heartbeat', 'fetch_next_provision', 'agent_realtime_token',
  'insert_provision_logs', 'update_provision_status')
