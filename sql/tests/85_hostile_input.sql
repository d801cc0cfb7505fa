-- scenario: every argument of every function may be null, and nothing but a refusal comes of it
do $$
declare
  v_function record;
  v_code text;
begin
  for v_function in
    select p.oid::regproc as name, array_to_string(array_agg(format('null::%s', t.type::regtype)
        order by t.position), ', ') as nulls
    from pg_proc p cross join unnest(p.proargtypes) with ordinality as t (type, position)
    where p.pronamespace = 'public'::regnamespace
    group by p.oid
  loop
    perform tests.as_owner(tests.alice()::text);
    perform set_config('role', 'none', true);
    begin
      execute format('select * from %s(%s)', v_function.name, v_function.nulls);
      v_code := '00000';
    exception when others then
      v_code := sqlstate;
    end;
    assert v_code in ('PT401', 'PT404', 'PT422') or v_function.name in ('public.queue_depth'::regproc,
      'public.reap_leases'::regproc, 'public.mark_offline_clusters'::regproc),
      format('%s: %s', v_function.name, v_code);
  end loop;
end $$;

-- scenario: ten megabytes are refused in time, and nothing is stored
do $$
declare
  v_provision public.provisions;
  v_object text := '(''{"hostile": "'' || repeat(''x'', 10000000) || ''"}'')::jsonb';
  v_list text := '(''['' || repeat(''1,'', 5000000) || ''1]'')::jsonb';
  v_refusal text[];
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform set_config('statement_timeout', '3s', true);
  foreach v_refusal slice 1 in array array[
    ['PT422', 'update_provision_status(tests.cluster(), tests.hash(), %L, ''FAILED'', p_attempt => 1,
      p_agent_id => tests.agent(), p_execution_metadata => ' || v_object || ')'],
    ['PT422', 'insert_provision_logs(tests.cluster(), tests.hash(), %L, 1, tests.agent(), 0,
      jsonb_build_array(jsonb_build_object(''s'', ''STDOUT'', ''o'', 0, ''t'',
        repeat(''x'', 10000000))))'],
    ['PT422', 'insert_provision_logs(tests.cluster(), tests.hash(), %L, 1, tests.agent(), 0, '
      || v_list || ')'],
    ['PT422', 'agent_heartbeat(tests.cluster(), tests.hash(), ' || v_object || ')'],
    ['PT401', 'agent_heartbeat(tests.cluster(), repeat(''hostile'', 1500000))']]
  loop
    perform tests.refused(v_refusal[1], 'select public.' || format(v_refusal[2], v_provision.id));
  end loop;
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('PT422',
    'select public.create_provision(tests.cluster(), ' || v_object || ')');
  perform tests.refused('PT422', 'select public.register_cluster(repeat(''hostile'', 1500000))');
  perform tests.as_admin();
  assert tests.provision(v_provision.id) = v_provision;
  assert not exists (select from public.provision_logs);
end $$;

-- scenario: NUL in JSON never gets in
do $$
begin
  perform tests.refused('22P05',
    'select public.agent_heartbeat(tests.cluster(), tests.hash(), ''{"id": "\u0000"}'')');
  perform tests.refused('22P05', 'select public.insert_provision_logs(tests.cluster(), tests.hash(),
    gen_random_uuid(), 1, null, 0, ''[{"s": "STDOUT", "o": 0, "t": "\u0000"}]'')');
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('22P05',
    'select public.create_provision(tests.cluster(), ''{"template_source": "\u0000"}'')');
end $$;

-- scenario: line breaks travel in data and never in a refusal
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.refused('PT422', format('select public.update_provision_status(tests.cluster(),
    tests.hash(), %L, %L)', v_provision.id, E'FAILED\r\nhostile: 1'));
  perform public.update_provision_status(tests.cluster(), tests.hash(), v_provision.id, 'FAILED',
    E'two\r\nlines', 1, tests.agent(), null, E'CODE\nX');
  assert (tests.provision(v_provision.id)).error_message = E'two\r\nlines';
  perform tests.as_owner(tests.alice()::text);
  assert public.register_cluster(E'two\nlines') ? 'token';
end $$;

-- scenario: metadata does not grow without end
do $$
declare
  v_provision public.provisions;
  v_call text := 'select public.update_provision_status(tests.cluster(), tests.hash(), %L,
    ''PROCESSING'', p_attempt => 1, p_agent_id => tests.agent(),
    p_execution_metadata => jsonb_build_object(%L, repeat(''x'', 200000)))';
begin
  perform tests.submit();
  v_provision := tests.claim();
  execute format(v_call, v_provision.id, 'a');
  execute format(v_call, v_provision.id, 'b');
  perform tests.refused('PT422', format(v_call, v_provision.id, 'c'));
  execute format(v_call, v_provision.id, 'b');
end $$;
