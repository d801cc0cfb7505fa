-- scenario: reap_leases gives up dead attempts of any cluster, and counts them
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit(), tests.submit(), tests.submit();
  perform tests.claim(), tests.claim();
  v_provision := tests.claim();
  update tendril_private.sweeps set swept_at = now();
  perform tests.silence(provision_id, '106 s') from public.provision_leases
    where provision_id <> v_provision.id;
  perform tests.as_service();
  assert public.reap_leases(1) = 1;
  assert public.reap_leases(null) = 1;
  assert public.reap_leases() = 0;
  perform tests.as_admin();
  assert (select array_agg(provision_id) from public.provision_leases) = array[v_provision.id];
end $$;

-- scenario: it waits while nobody at all is heard, unless that lasts
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '1 hour');
  update tendril_private.sweeps set swept_at = now() - interval '1 min';
  assert public.reap_leases() = 0;
  update tendril_private.sweeps set swept_at = now() - interval '16 min';
  assert public.reap_leases() = 1;
end $$;

-- scenario: mark_offline_clusters takes the heartbeats' word, for clusters and for agents
do $$
begin
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent()));
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash(),
    jsonb_build_object('id', tests.agent()));
  update public.clusters set last_heartbeat = now() - interval '91 s' where id = tests.cluster();
  update public.agents set last_seen = now() - interval '91 s' where cluster_id = tests.cluster();
  perform tests.as_service();
  assert public.mark_offline_clusters() = 1;
  assert public.mark_offline_clusters() = 0;
  assert (select string_agg(c.status || a.state, ' ' order by c.id)
    from public.clusters c join public.agents a on a.cluster_id = c.id) = 'OFFLINEOFFLINE ONLINEONLINE';
  assert (select array_agg(e.action || e.actor order by e.id) from public.audit_events e
    where e.cluster_id = tests.cluster())
    = '{cluster_onlineservice,agent_registeredservice,cluster_offlinesystem}';
end $$;

-- scenario: neither is for owners or agents
do $$
declare
  v_call text;
begin
  foreach v_call in array array['select public.reap_leases()', 'select public.mark_offline_clusters()',
    'select public.prune_logs(''1 day'')']
  loop
    perform tests.as_owner(tests.alice()::text);
    perform tests.refused('42501', v_call);
    perform tests.as_agent();
    perform tests.refused('42501', v_call);
  end loop;
end $$;

-- scenario: without pg_cron and without Realtime there is nothing to attach to
drop schema realtime cascade;
do $$
begin
  assert not tendril_private.schedule_upkeep();
  assert not tendril_private.attach_realtime();
end $$;
