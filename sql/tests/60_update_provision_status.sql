-- scenario: each final status ends the lease; repeating it changes nothing
do $$
declare
  v_provision public.provisions;
  v_status text;
begin
  foreach v_status in array array['SUCCESS', 'FAILED', 'CANCELLED'] loop
    perform tests.submit();
    v_provision := tests.claim();
    assert tests.report(v_provision.id, 1, v_status)
      = jsonb_build_object('status', v_status, 'changed', true);
    assert not exists (select from public.provision_leases);
    v_provision := tests.provision(v_provision.id);
    assert v_provision.status = v_status and v_provision.completed_at >= v_provision.started_at;
    assert tests.report(v_provision.id, 1, v_status)
      = jsonb_build_object('status', v_status, 'changed', false);
    assert tests.provision(v_provision.id) = v_provision;
  end loop;
end $$;

-- scenario: another outcome after the end is refused
do $$
declare
  v_provision public.provisions;
  v_status text;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.report(v_provision.id, 1, 'FAILED');
  foreach v_status in array array['SUCCESS', 'CANCELLED', 'PROCESSING'] loop
    perform tests.refused('PT409',
      format('select tests.report(%L, 1, %L)', v_provision.id, v_status));
  end loop;
end $$;

-- scenario: PROCESSING says nothing new
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  assert tests.report(v_provision.id, 1, 'PROCESSING')
    = '{"status": "PROCESSING", "changed": false}';
  assert tests.provision(v_provision.id) = v_provision;
end $$;

-- scenario: no outcome before the last line of the log
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]');
  perform tests.refused('PT422', format('select tests.report(%L, 1, ''SUCCESS'', 2)', v_provision.id));
  assert (tests.provision(v_provision.id)).status = 'PROCESSING';
  perform tests.log(v_provision.id, 1, 1, '[{"s": "STDOUT", "o": 1, "t": "b"}]');
  assert (tests.report(v_provision.id, 1, 'SUCCESS', 2) ->> 'changed')::boolean;
end $$;

-- scenario: the refusal names what is missing
do $$
declare
  v_provision public.provisions;
  v_detail text;
  v_hint text;
begin
  perform tests.submit();
  v_provision := tests.claim();
  begin
    perform tests.report(v_provision.id, 1, 'SUCCESS', 7);
  exception when sqlstate 'PT422' then
    get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint;
  end;
  assert v_detail = 'stored=0 expected=7' and v_hint = 'deliver the missing chunks first';
end $$;

-- scenario: fenced by attempt, agent and cluster
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.refused('PT409', format('select tests.report(%L, 2, ''SUCCESS'')', v_provision.id));
  perform tests.refused('PT409', format('select tests.report(%L, null, ''SUCCESS'')', v_provision.id));
  perform tests.refused('PT409',
    format('select tests.report(%L, 1, ''SUCCESS'', null, tests.other_agent())', v_provision.id));
  perform tests.refused('PT409',
    format('select tests.report(%L, 1, ''SUCCESS'', null, null)', v_provision.id));
  perform tests.refused('PT409',
    format('select tests.report(%L, null, ''SUCCESS'', null, null)', v_provision.id));
  perform tests.refused('PT404', 'select tests.report(gen_random_uuid(), 1, ''SUCCESS'')');
  perform tests.refused('PT404', format('select public.update_provision_status(tests.bobs_cluster(),
    tests.bobs_hash(), %L, ''SUCCESS'', null, 1, tests.agent())', v_provision.id));
  assert tests.provision(v_provision.id) = v_provision;
end $$;

-- scenario: a queued provision cannot be ended from outside
do $$
declare
  v_id uuid := tests.submit();
begin
  perform tests.refused('PT409', format('select tests.report(%L, null, ''SUCCESS'', null, null)', v_id));
  perform tests.refused('PT409', format('select tests.report(%L, 0, ''FAILED'', null, null)', v_id));
end $$;

-- scenario: an expired lease that nobody has reaped is still a lease; a reaped one is none
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit(), tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '1 hour');
  assert (tests.report(v_provision.id, 1, 'SUCCESS') ->> 'changed')::boolean;
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '1 hour');
  perform tests.claim();
  perform tests.refused('PT409', format('select tests.report(%L, 1, ''SUCCESS'')', v_provision.id));
  assert (tests.provision(v_provision.id)).status = 'QUEUED';
end $$;

-- scenario: a cancelled run may end as it pleases
do $$
declare
  v_provision public.provisions;
  v_status text;
begin
  foreach v_status in array array['CANCELLED', 'SUCCESS', 'FAILED'] loop
    perform tests.submit();
    v_provision := tests.claim();
    perform tests.as_owner(tests.alice()::text);
    perform public.cancel_provision(v_provision.id, true);
    perform tests.as_admin();
    assert tests.report(v_provision.id, 1, v_status) ->> 'status' = v_status;
  end loop;
end $$;

-- scenario: messages are bounded, metadata merges
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform public.update_provision_status(tests.cluster(), tests.hash(), v_provision.id, 'PROCESSING',
    p_attempt => 1, p_agent_id => tests.agent(), p_execution_metadata => '{"commit": "c", "n": 1}');
  perform public.update_provision_status(tests.cluster(), tests.hash(), v_provision.id, 'FAILED',
    repeat('é', 9000), 1, tests.agent(), null, 'TERRAFORM_FAILED', '{"n": 2}');
  v_provision := tests.provision(v_provision.id);
  assert v_provision.error_message = repeat('é', 8192);
  assert v_provision.error_code = 'TERRAFORM_FAILED';
  assert v_provision.execution_metadata = '{"commit": "c", "n": 2}';
end $$;

-- scenario: hostile input
do $$
declare
  v_provision public.provisions;
  v_value text;
begin
  perform tests.submit();
  v_provision := tests.claim();
  foreach v_value in array array['QUEUED', 'hostile', 'success', '', null] loop
    perform tests.refused('PT422', format('select tests.report(%L, 1, %L)', v_provision.id, v_value));
  end loop;
  foreach v_value in array array['[]', '"hostile"', '1'] loop
    perform tests.refused('PT422', format('select public.update_provision_status(tests.cluster(),
      tests.hash(), %L, ''FAILED'', p_attempt => 1, p_agent_id => tests.agent(),
      p_execution_metadata => %L)', v_provision.id, v_value));
  end loop;
end $$;
