-- scenario: each option alone; null leaves it; repeating changes nothing
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  assert public.set_cluster_options(tests.cluster(), 3)
    = '{"max_concurrency": 3, "drain": false, "changed": true}';
  assert public.set_cluster_options(tests.cluster(), p_drain => true)
    = '{"max_concurrency": 3, "drain": true, "changed": true}';
  assert public.set_cluster_options(tests.cluster(), null, null)
    = '{"max_concurrency": 3, "drain": true, "changed": false}';
  assert (select c.max_concurrency || ' ' || c.drain from public.clusters c) = '3 true';
end $$;

-- scenario: a draining cluster says so to its agents and gives out nothing more; what runs goes on
do $$
declare
  v_running public.provisions;
begin
  perform tests.submit(), tests.submit();
  v_running := tests.claim();
  perform tests.as_owner(tests.alice()::text);
  perform public.set_cluster_options(tests.cluster(), p_drain => true);
  perform tests.as_admin();
  assert public.agent_heartbeat(tests.cluster(), tests.hash()) -> 'drain' = 'true';
  assert public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash()) -> 'drain' = 'false';
  assert (tests.claim()).id is null;
  assert (tests.beat(v_running.id, 1, 'APPLY') ->> 'held')::boolean;
  assert (tests.report(v_running.id, 1, 'SUCCESS') ->> 'changed')::boolean;
  perform tests.as_owner(tests.alice()::text);
  perform public.set_cluster_options(tests.cluster(), p_drain => false);
  perform tests.as_admin();
  assert (tests.claim()).id is not null;
end $$;

-- scenario: illegal limits
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('PT422', 'select public.set_cluster_options(tests.cluster(), -1)');
  perform tests.refused('PT422', 'select public.set_cluster_options(tests.cluster(), 1001)');
  perform tests.refused('22003', 'select public.set_cluster_options(tests.cluster(), (2 ^ 40)::int)');
end $$;
