-- scenario: kept whole, in its columns
do $$
declare
  v_snapshot jsonb := '{"template_source": {"repo": "r", "version": "v", "path": "p", "x": 1},
    "terraform_vars": {"n": 12345678901234567890123}, "sensitive": ["n"], "unknown": [null]}';
  v_configuration public.configurations;
begin
  perform tests.as_owner(tests.alice()::text);
  v_configuration := public.save_configuration(tests.cluster(), '  prod  ', v_snapshot);
  assert v_configuration.name = 'prod' and v_configuration.user_id = tests.alice();
  assert v_configuration.template_source = v_snapshot -> 'template_source';
  assert v_configuration.terraform_vars::text = '{"n": 12345678901234567890123}';
  assert v_configuration.options = '{"sensitive": ["n"], "unknown": [null]}';
  assert (select g from public.configurations g) = v_configuration;
  perform tests.as_admin();
  assert tendril_private.snapshot_of(v_configuration) = v_snapshot;
end $$;

-- scenario: absent and null variables come back as they were
do $$
declare
  v_snapshot jsonb;
begin
  perform tests.as_owner(tests.alice()::text);
  foreach v_snapshot in array array[tests.snapshot(), tests.snapshot() || '{"terraform_vars": null}']
  loop
    assert (public.create_provision(p_configuration_id => (public.save_configuration(
      tests.cluster(), v_snapshot::text::char(90), v_snapshot)).id)).config_snapshot = v_snapshot;
  end loop;
end $$;

-- scenario: saved again under its id, also in another cluster of the owner
do $$
declare
  v_first public.configurations;
  v_again public.configurations;
  v_other uuid;
begin
  perform tests.as_owner(tests.alice()::text);
  v_other := public.register_cluster('other') ->> 'cluster_id';
  v_first := public.save_configuration(tests.cluster(), 'a', tests.snapshot());
  v_again := public.save_configuration(v_other, 'b', tests.snapshot() || '{"meta": 1}', v_first.id);
  assert v_again.id = v_first.id and v_again.created_at = v_first.created_at;
  assert v_again.cluster_id = v_other and v_again.name = 'b' and v_again.options = '{"meta": 1}';
  assert v_again.updated_at > v_first.updated_at;
end $$;

-- scenario: one name, one configuration
do $$
declare
  v_id uuid;
begin
  perform tests.as_owner(tests.alice()::text);
  perform public.save_configuration(tests.cluster(), 'a', tests.snapshot());
  v_id := (public.save_configuration(tests.cluster(), 'b', tests.snapshot())).id;
  perform tests.refused('PT422',
    'select public.save_configuration(tests.cluster(), ''a'', tests.snapshot())');
  perform tests.refused('PT422', format(
    'select public.save_configuration(tests.cluster(), ''a'', tests.snapshot(), %L)', v_id));
end $$;

-- scenario: strangers, agents, nobody
do $$
declare
  v_id uuid;
  v_call text;
begin
  perform tests.as_owner(tests.alice()::text);
  v_id := (public.save_configuration(tests.cluster(), 'a', tests.snapshot())).id;
  v_call := 'select public.save_configuration(%L, ''b'', tests.snapshot(), %L)';
  perform tests.as_owner(tests.bob()::text);
  assert not exists (select from public.configurations);
  perform tests.refused('PT404', format(v_call, tests.cluster(), null));
  perform tests.refused('PT404', format(v_call, tests.cluster(), v_id));
  assert tests.refused('PT404', format(v_call, tests.bobs_cluster(), v_id))
    = tests.refused('PT404', format(v_call, tests.bobs_cluster(), gen_random_uuid()));
  perform tests.refused('42501', 'update public.configurations set name = ''x''');
  perform tests.as_owner('hostile');
  assert not exists (select from public.configurations);
  perform tests.refused('PT401', format(v_call, tests.cluster(), null));
  perform tests.as_agent(jsonb_build_object('role', 'anon', 'sub', tests.alice()));
  perform tests.refused('42501', format(v_call, tests.cluster(), null));
end $$;

-- scenario: hostile input
do $$
declare
  v_arguments text;
begin
  perform tests.as_owner(tests.alice()::text);
  foreach v_arguments in array array[
    'null, tests.snapshot()', ''' '', tests.snapshot()', 'repeat(''hostile'', 99), tests.snapshot()',
    '''x'', null', '''x'', ''null''', '''x'', ''[]''', '''x'', ''{}''', '''x'', ''"hostile"''',
    '''x'', jsonb_build_object(''hostile'', repeat(''x'', 10000000))']
  loop
    perform tests.refused('PT422',
      format('select public.save_configuration(tests.cluster(), %s)', v_arguments));
  end loop;
end $$;
