-- scenario: queued with all that was given
do $$
declare
  v_provision public.provisions;
  v_configuration uuid := gen_random_uuid();
begin
  perform tests.as_owner(tests.alice()::text);
  v_provision := public.create_provision(
    tests.cluster(), '{"n": 9007199254740993}', repeat('0', 64), 'DESTROY', v_configuration);
  assert v_provision.status = 'QUEUED' and v_provision.attempt = 0;
  assert v_provision.operation = 'DESTROY';
  assert v_provision.configuration_hash = repeat('0', 64);
  assert v_provision.config_snapshot::text = '{"n": 9007199254740993}';
  assert v_provision.stack_key = v_configuration::text;
end $$;

-- scenario: defaults, also where a client sends null
do $$
declare
  v_provision public.provisions;
begin
  perform tests.as_owner(tests.alice()::text);
  v_provision := public.create_provision(tests.cluster(),
    '{"template_source": {"repo": "https://h/r", "version": "v", "path": "p"}}', null, null, null);
  assert v_provision.operation = 'APPLY';
  assert v_provision.configuration_hash is null;
  assert v_provision.stack_key = tests.cluster() || '/https://h/r/p', v_provision.stack_key;
end $$;

-- scenario: a stranger's cluster and no cluster look the same
do $$
begin
  perform tests.as_owner(tests.bob()::text);
  assert tests.refused('PT404', 'select public.create_provision(tests.cluster(), ''{}'')')
    = tests.refused('PT404', 'select public.create_provision(gen_random_uuid(), ''{}'')');
  perform tests.refused('PT404', 'select public.create_provision(null, ''{}'')');
  perform set_config('request.jwt.claims', '', true);
  perform tests.refused('PT401', 'select public.create_provision(tests.cluster(), ''{}'')');
end $$;

-- scenario: hostile input is refused with the same words as a direct insert
do $$
declare
  v_values text;
begin
  perform tests.as_owner(tests.alice()::text);
  foreach v_values in array array[
    '''[]'', null, ''APPLY''',
    '''"hostile"'', null, ''APPLY''',
    '''null'', null, ''APPLY''',
    'null, null, ''APPLY''',
    '''{}'', repeat(''hostile'', 30), ''APPLY''',
    '''{}'', null, ''hostile''',
    'jsonb_build_object(''x'', repeat(''x'', 1048577)), null, ''APPLY''']
  loop
    assert tests.refused('PT422',
        format('select public.create_provision(tests.cluster(), %s)', v_values))
      = tests.refused('PT422', format('insert into public.provisions '
        '(cluster_id, config_snapshot, configuration_hash, operation) '
        'values (tests.cluster(), %s)', v_values));
  end loop;
end $$;

-- scenario: an owner may insert the request itself, the rest is set here
do $$
declare
  v_provision public.provisions;
begin
  perform tests.as_owner(tests.alice()::text);
  insert into public.provisions
      (cluster_id, configuration_id, config_snapshot, configuration_hash, operation)
    values (tests.cluster(), null, '{}', 'abc', 'PLAN') returning * into v_provision;
  assert v_provision.status = 'QUEUED' and v_provision.operation = 'PLAN';
  assert v_provision.stack_key = tests.cluster()::text;
  perform tests.refused('42501', 'insert into public.provisions (cluster_id, config_snapshot, status)
    values (tests.cluster(), ''{}'', ''SUCCESS'')');
  perform tests.refused('42501', 'insert into public.provisions (cluster_id, config_snapshot)
    values (tests.bobs_cluster(), ''{}'')');
end $$;
