-- scenario: wrong cluster, wrong token, expired token, revoked token: one answer
do $$
declare
  v_message text := tests.refused('PT401',
    'select public.agent_heartbeat(tests.cluster(), ''hostile'')');
begin
  assert v_message = tests.refused('PT401',
    'select public.agent_heartbeat(gen_random_uuid(), tests.hash())');
  assert v_message = tests.refused('PT401',
    'select public.agent_heartbeat(tests.bobs_cluster(), tests.hash())');
  assert v_message = tests.refused('PT401', 'select public.agent_heartbeat(null, tests.hash())');
  assert v_message = tests.refused('PT401', 'select public.agent_heartbeat(tests.cluster(), null)');
  update public.cluster_tokens set expires_at = now() - interval '1 s';
  assert v_message = tests.refused('PT401',
    'select public.agent_heartbeat(tests.cluster(), tests.hash())');
  update public.cluster_tokens set expires_at = now() + interval '1 day', revoked_at = now();
  assert v_message = tests.refused('PT401',
    'select public.agent_heartbeat(tests.cluster(), tests.hash())');
end $$;

-- scenario: every agent's function asks for the token
do $$
declare
  v_call text;
begin
  foreach v_call in array array[
    'agent_heartbeat(tests.cluster(), ''no'')',
    'agent_realtime_token(tests.cluster(), ''no'')',
    'fetch_next_provision(tests.cluster(), ''no'')',
    'insert_provision_log(tests.cluster(), ''no'', gen_random_uuid(), ''x'', ''STDOUT'')',
    'insert_provision_logs(tests.cluster(), ''no'', gen_random_uuid(), 1, null, 0, ''[]'')',
    'update_provision_status(tests.cluster(), ''no'', gen_random_uuid(), ''SUCCESS'')']
  loop
    perform tests.as_agent();
    perform tests.refused('PT401', 'select public.' || v_call);
    perform tests.as_owner(tests.alice()::text);
    perform tests.refused('42501', 'select public.' || v_call);
  end loop;
end $$;

-- scenario: the stored verifier does not let anybody in
do $$
begin
  perform tests.refused('PT401', format('select public.agent_heartbeat(tests.cluster(), %L)',
    (select encode(verifier, 'hex') from public.cluster_tokens where cluster_id = tests.cluster())));
end $$;

-- scenario: the cluster comes online; published rows are not rewritten by each beat
do $$
declare
  v_answer jsonb;
  v_first timestamptz;
begin
  perform tests.as_agent();
  v_answer := public.agent_heartbeat(tests.cluster(), upper(tests.hash()),
    jsonb_build_object('id', tests.agent(), 'leases', '[]'::jsonb));
  perform tests.as_admin();
  assert v_answer - 'server_time' = '{"leases": [], "drain": false, "lease_ttl_s": 90}',
    v_answer::text;
  assert (v_answer ->> 'server_time')::timestamptz between now() and clock_timestamp();
  select last_heartbeat into v_first from public.clusters
    where id = tests.cluster() and status = 'ONLINE';
  assert v_first is not null;
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select last_heartbeat from public.clusters where id = tests.cluster()) = v_first;
  update public.clusters set last_heartbeat = now() - interval '21 s' where id = tests.cluster();
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select last_heartbeat from public.clusters where id = tests.cluster()) >= now();
  assert (select last_used_at from public.cluster_tokens where cluster_id = tests.cluster())
    is not null;
end $$;

-- scenario: renews the listed leases of this agent and attempt, and no other
do $$
declare
  v_mine public.provisions;
  v_unlisted public.provisions;
begin
  perform tests.submit(), tests.submit();
  v_mine := tests.claim();
  v_unlisted := tests.claim();
  perform tests.silence(v_mine.id, '60 s');
  perform tests.silence(v_unlisted.id, '60 s');
  assert tests.beat(v_mine.id, 1, 'PREPARE') = jsonb_build_object(
    'provision_id', v_mine.id, 'attempt', 1, 'held', true, 'cancel', 'none');
  assert (select array_agg(provision_id) from public.provision_leases
    where expires_at > now() + interval '89 s') = array[v_mine.id];
  assert not (tests.beat(v_mine.id, 2, 'PREPARE') ->> 'held')::boolean;
  assert not (tests.beat(v_mine.id, 1, 'PREPARE', tests.other_agent()) ->> 'held')::boolean;
  assert not (tests.beat(gen_random_uuid(), 1, 'PREPARE') ->> 'held')::boolean;
end $$;

-- scenario: another cluster's lease is neither renewed nor spoken of
do $$
declare
  v_mine public.provisions;
begin
  perform tests.submit();
  v_mine := tests.claim();
  update public.provisions set cancel_requested_at = now();
  assert public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash(), jsonb_build_object(
      'id', tests.agent(), 'leases', jsonb_build_array(jsonb_build_object(
        'provision_id', v_mine.id, 'attempt', 1, 'phase', 'APPLY')))) #> '{leases,0}'
    = jsonb_build_object('provision_id', v_mine.id, 'attempt', 1, 'held', false, 'cancel', 'none');
  assert (select phase from public.provision_leases) = 'PREPARE';
end $$;

-- scenario: a phase never goes back
do $$
declare
  v_provision public.provisions;
  v_step text[];
begin
  perform tests.submit();
  v_provision := tests.claim();
  foreach v_step slice 1 in array array[
    ['PREPARE', 'PREPARE'], ['PLAN', 'PLAN'], ['PREPARE', 'PLAN'], [null, 'PLAN'],
    ['APPLY', 'APPLY'], ['PLAN', 'APPLY']]
  loop
    perform tests.beat(v_provision.id, 1, v_step[1]);
    assert (select phase from public.provision_leases) = v_step[2], v_step::text;
  end loop;
end $$;

-- scenario: tells what the owner asked for
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.as_owner(tests.alice()::text);
  perform public.cancel_provision(v_provision.id);
  perform tests.as_admin();
  assert tests.beat(v_provision.id, 1, 'PLAN') ->> 'cancel' = 'graceful';
  perform tests.as_owner(tests.alice()::text);
  perform public.cancel_provision(v_provision.id, true);
  perform tests.as_admin();
  assert tests.beat(v_provision.id, 1, 'PLAN') ->> 'cancel' = 'force';
end $$;

-- scenario: without an agent, all leases that have none are renewed
do $$
declare
  v_old public.provisions;
  v_new public.provisions;
begin
  perform tests.submit(), tests.submit();
  v_old := tests.claim(null);
  v_new := tests.claim();
  perform tests.silence(v_old.id, '5 min');
  perform tests.silence(v_new.id, '80 s');
  perform public.agent_heartbeat(tests.cluster(), tests.hash(), 'null');
  assert (select array_agg(provision_id) from public.provision_leases
    where expires_at > now() + interval '89 s') = array[v_old.id];
end $$;

-- scenario: hostile input
do $$
declare
  v_agent text;
begin
  foreach v_agent in array array[
    '[]', '"hostile"', '1', '{}', '{"id": null}', '{"id": "hostile"}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": {}}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": ["hostile"]}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": [{}]}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": [{"attempt": 1, "provision_id": "x"}]}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": [{"attempt": "hostile",
      "provision_id": "a0000000-0000-4000-8000-000000000001"}]}',
    '{"id": "a0000000-0000-4000-8000-000000000001", "leases": [{"attempt": 1, "phase": "hostile",
      "provision_id": "a0000000-0000-4000-8000-000000000001"}]}']
  loop
    perform tests.refused('PT422', format(
      'select public.agent_heartbeat(tests.cluster(), tests.hash(), %L)', v_agent));
  end loop;
  perform tests.refused('PT422', 'select public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object(''id'', tests.agent(), ''leases'',
      (select jsonb_agg(i) from generate_series(1, 1001) i)))');
end $$;
