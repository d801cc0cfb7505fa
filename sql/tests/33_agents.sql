-- scenario: registered by the first heartbeat, rewritten in place by the next
do $$
declare
  v_agent jsonb := jsonb_build_object('id', tests.agent(), 'hostname', 'pod-1', 'version', '0.1.0',
    'state', 'ONLINE', 'capacity', 2);
  v_first public.agents;
  v_next public.agents;
begin
  perform public.agent_heartbeat(tests.cluster(), tests.hash(), v_agent);
  select * into strict v_first from public.agents;
  assert (v_first.id, v_first.hostname, v_first.version, v_first.state, v_first.capacity)
    = (tests.agent(), 'pod-1', '0.1.0', 'ONLINE', 2);
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    v_agent || '{"state": "DRAINING", "hostname": "pod-2"}');
  select * into strict v_next from public.agents;
  assert v_next.state = 'DRAINING' and v_next.hostname = 'pod-2';
  assert v_next.last_seen > v_first.last_seen and v_next.first_seen = v_first.first_seen;
  assert tests.audited(null) = '{cluster_online,agent_registered}';
end $$;

-- scenario: the same id in two clusters is two agents
do $$
begin
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent(), 'hostname', 'mine'));
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash(),
    jsonb_build_object('id', tests.agent(), 'hostname', 'hostile'));
  perform tests.as_owner(tests.alice()::text);
  assert (select array_agg(hostname) from public.agents) = '{mine}';
end $$;

-- scenario: those not seen for a week are forgotten; there is a limit to how many there are
do $$
begin
  insert into public.agents (cluster_id, id, state, last_seen)
    select tests.cluster(), gen_random_uuid(), 'OFFLINE', now() - interval '8 days'
    from generate_series(1, 1000);
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent()));
  assert (select count(*) from public.agents) = 1;
  insert into public.agents (cluster_id, id, state, last_seen)
    select tests.cluster(), gen_random_uuid(), 'OFFLINE', now() from generate_series(1, 999);
  perform tests.refused('PT429', 'select public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object(''id'', gen_random_uuid()))');
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent()));
end $$;

-- scenario: what an agent says of itself is cut or refused
do $$
declare
  v_change text;
begin
  perform public.agent_heartbeat(tests.cluster(), tests.hash(), jsonb_build_object('id', tests.agent(),
    'hostname', repeat('é', 1000000), 'version', repeat('1', 1000), 'state', null, 'capacity', null));
  assert (select a.hostname = repeat('é', 255) and a.version = repeat('1', 100)
    and a.state = 'ONLINE' and a.capacity is null from public.agents a);
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent(), 'capacity', 999999999));
  assert (select a.capacity from public.agents a) = 1000;
  foreach v_change in array array['{"state": "hostile"}', '{"state": "OFFLINE"}', '{"state": 1}',
    '{"capacity": -1}', '{"capacity": 1e10}', '{"capacity": 1.5}', '{"capacity": "hostile"}',
    '{"capacity": []}']
  loop
    perform tests.refused('PT422', format('select public.agent_heartbeat(tests.cluster(), tests.hash(),
      jsonb_build_object(''id'', tests.agent()) || %L)', v_change));
  end loop;
end $$;
