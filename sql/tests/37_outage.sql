-- scenario: after a gap in all heartbeats nobody is reaped for one TTL
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '5 min');
  update tendril_private.sweeps set swept_at = now() - interval '5 min';
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash());
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  perform tests.claim();
  assert public.reap_leases() = 0;
  assert (select paused_until - clock_timestamp() from tendril_private.sweeps)
    between '89 s' and '90 s';
  assert (select count(*) from public.provision_leases) = 1;
  assert (tests.beat(v_provision.id, 1, 'PLAN') ->> 'held')::boolean;

  perform tests.silence(v_provision.id, '5 min');
  update tendril_private.sweeps set paused_until = now();
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert not exists (select from public.provision_leases);
end $$;

-- scenario: a claim may be what is heard first
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '5 min');
  update tendril_private.sweeps set swept_at = now() - interval '5 min';
  perform tests.claim();
  assert (select count(*) from public.provision_leases) = 1;
  assert (select paused_until > now() from tendril_private.sweeps);
end $$;

-- scenario: nothing is reaped while another session notes the gap
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '5 min');
  update tendril_private.sweeps set swept_at = now() - interval '5 min';
  perform tendril_private.reap_cluster(tests.cluster());  -- as if hear_agent() found the row locked
  assert (select count(*) from public.provision_leases) = 1;
end $$;

-- scenario: nobody is marked OFFLINE in the pause
do $$
begin
  update public.clusters set status = 'ONLINE', last_heartbeat = now() - interval '5 min';
  update tendril_private.sweeps set swept_at = now() - interval '5 min';
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select status from public.clusters where id = tests.bobs_cluster()) = 'ONLINE';
  update tendril_private.sweeps set swept_at = now() - interval '6 s', paused_until = now();
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select status from public.clusters where id = tests.bobs_cluster()) = 'OFFLINE';
end $$;

-- scenario: neither the very first heartbeat nor a short silence is an outage
do $$
begin
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select paused_until from tendril_private.sweeps) = '-infinity';
  update tendril_private.sweeps set swept_at = now() - interval '44 s';
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select paused_until from tendril_private.sweeps) = '-infinity';
end $$;
