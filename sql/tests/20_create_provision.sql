-- scenario: queued with all that was given
do $$
declare
  v_provision public.provisions;
  v_configuration uuid;
  v_snapshot jsonb := tests.snapshot() || '{"n": 9007199254740993}';
begin
  perform tests.as_owner(tests.alice()::text);
  v_configuration := (public.save_configuration(tests.cluster(), 'x', tests.snapshot())).id;
  v_provision := public.create_provision(
    tests.cluster(), v_snapshot, repeat('0', 64), 'DESTROY', v_configuration);
  assert v_provision.status = 'QUEUED' and v_provision.attempt = 0;
  assert v_provision.operation = 'DESTROY';
  assert v_provision.configuration_hash = repeat('0', 64);
  assert v_provision.config_snapshot = v_snapshot;
  assert v_provision.config_snapshot ->> 'n' = '9007199254740993';
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
    '''{}'', null, ''APPLY''',
    'tests.snapshot(), repeat(''hostile'', 30), ''APPLY''',
    'tests.snapshot(), null, ''hostile''',
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
    values (tests.cluster(), null, tests.snapshot(), 'abc', 'PLAN') returning * into v_provision;
  assert v_provision.status = 'QUEUED' and v_provision.operation = 'PLAN';
  assert v_provision.stack_key = tests.cluster() || '/https://example.test/t.git';
  perform tests.refused('42501', 'insert into public.provisions (cluster_id, config_snapshot, status)
    values (tests.cluster(), tests.snapshot(), ''SUCCESS'')');
  perform tests.refused('42501', 'insert into public.provisions (cluster_id, config_snapshot)
    values (tests.bobs_cluster(), tests.snapshot())');
end $$;

-- scenario: of a configuration, as it was saved last
do $$
declare
  v_configuration public.configurations;
  v_provision public.provisions;
begin
  perform tests.as_owner(tests.alice()::text);
  v_configuration := public.save_configuration(tests.cluster(), 'x', tests.snapshot());
  v_configuration := public.save_configuration(tests.cluster(), 'x',
    tests.snapshot() || '{"terraform_vars": {"n": 2}, "meta": {"a": 1}}', v_configuration.id);
  v_provision := public.create_provision(p_configuration_id => v_configuration.id);
  assert v_provision.config_snapshot
    = tests.snapshot() || '{"terraform_vars": {"n": 2}, "meta": {"a": 1}}';
  assert v_provision.cluster_id = tests.cluster();
  assert v_provision.stack_key = v_configuration.id::text;
  v_provision := public.create_provision(null, 'null', null, 'PLAN', v_configuration.id);
  assert v_provision.config_snapshot ->> 'meta' is not null;
  v_provision := public.create_provision(null, tests.snapshot(), null, null, v_configuration.id);
  assert v_provision.config_snapshot = tests.snapshot();
end $$;

-- scenario: a stranger's configuration reserves nobody's stack, by whichever way
do $$
declare
  v_alices uuid;
  v_call text;
begin
  perform tests.as_owner(tests.alice()::text);
  v_alices := (public.save_configuration(tests.cluster(), 'x', tests.snapshot())).id;
  perform tests.as_owner(tests.bob()::text);
  foreach v_call in array array[
    'select public.create_provision(p_configuration_id => %L)',
    'select public.create_provision(tests.bobs_cluster(), tests.snapshot(), null, null, %L)',
    'insert into public.provisions (cluster_id, config_snapshot, configuration_id)
      values (tests.bobs_cluster(), tests.snapshot(), %L)']
  loop
    assert tests.refused('PT404', format(v_call, v_alices))
      = tests.refused('PT404', format(v_call, gen_random_uuid()));
  end loop;
  perform tests.as_service();
  perform tests.refused('PT404', format(v_call, v_alices));
  perform tests.as_admin();
  assert not exists (select from public.provisions);
end $$;

-- scenario: the refusal names the malformed field, and repeats no value
do $$
declare
  v_source text := '{"template_source": {"repo": "r", "version": "v"}}';
  v_case text[];
  v_detail text;
begin
  perform tests.as_owner(tests.alice()::text);
  foreach v_case slice 1 in array array[
    ['{"template_source": []}', '.template_source must'],
    ['{"template_source": {"version": "v"}}', '.template_source.repo must'],
    ['{"template_source": {"repo": "", "version": "v"}}', '.template_source.repo must'],
    ['{"template_source": {"repo": "r", "version": 1}}', '.template_source.version must'],
    ['{"template_source": {"repo": "r", "version": "v", "path": 1}}', '.template_source.path must'],
    ['{"terraform_vars": ["hostile"]}', '.terraform_vars must'],
    ['{"terraform_vars": {"a b": "hostile"}}', '.terraform_vars: "a b" is not'],
    ['{"terraform_vars": {"a\n": "hostile"}}', '.terraform_vars: "a\n" is not'],
    ['{"sensitive": "hostile"}', '.sensitive must'],
    ['{"sensitive": ["missing"]}', '.sensitive names "missing"'],
    ['{"sensitive": ["a", 1]}', '.sensitive must'],
    ['{"sensitive": [["a"]]}', '.sensitive must'],
    ['{"backend_config": ["hostile"]}', '.backend_config must'],
    ['{"backend_config": {"a": {"b": "hostile"}}}', '.backend_config must'],
    ['{"backend_config": {"a": null}}', '.backend_config must'],
    ['{"backend_config": {"a = 1": "x"}}', '.backend_config: '],
    ['{"timeouts": {"plan_s": "hostile"}}', '.timeouts.plan_s must'],
    ['{"timeouts": {"apply_s": 0}}', '.timeouts.apply_s must'],
    ['{"cost_estimate": "hostile"}', '.cost_estimate must']]
  loop
    v_detail := null;
    begin
      perform public.create_provision(tests.cluster(), v_source::jsonb || v_case[1]::jsonb);
    exception when sqlstate 'PT422' then
      get stacked diagnostics v_detail = pg_exception_detail;
    end;
    assert starts_with(v_detail, 'config_snapshot' || v_case[2]) and v_detail !~ 'hostile',
      format('%s: %s', v_case, v_detail);
  end loop;
  perform public.create_provision(tests.cluster(), v_source::jsonb || '{"terraform_vars": null,
    "sensitive": null, "backend_config": {"a": "x", "b": true, "c": 7.5}, "anything": [null]}');
end $$;

-- scenario: what the database's owner restores or loads is taken as it is
do $$
begin
  insert into public.provisions (cluster_id, configuration_id, config_snapshot)
    values (tests.cluster(), gen_random_uuid(), '{}');
  assert not exists (select from public.audit_events);
end $$;
