-- scenario: a heartbeat takes the lost attempt up again, and it ends with its true outcome
do $$
declare
  v_provision public.provisions := tests.lost_in_apply();
begin
  assert not exists (select from public.provision_leases);
  assert tests.beat(v_provision.id, 1, 'APPLY') = jsonb_build_object(
    'provision_id', v_provision.id, 'attempt', 1, 'held', true, 'cancel', 'none');
  v_provision := tests.provision(v_provision.id);
  assert v_provision.status = 'PROCESSING' and v_provision.attempt = 1;
  assert v_provision.error_code is null and v_provision.error_message is null;
  assert v_provision.completed_at is null;
  assert (select l.phase || l.attempt from public.provision_leases l
    where l.agent_id = tests.agent() and l.expires_at > clock_timestamp() + interval '89 s')
    = 'APPLY1';
  assert tests.report(v_provision.id, 1, 'SUCCESS') = '{"status": "SUCCESS", "changed": true}';
  assert (tests.provision(v_provision.id)).status = 'SUCCESS';
  assert not exists (select from tendril_private.lost_leases);
  assert tests.audited(v_provision.id)
    = '{provision_claimed,lease_reaped,verdict_withdrawn,provision_ended}';
end $$;

-- scenario: so does its final report, which stays subject to the log
do $$
declare
  v_provision public.provisions := tests.lost_in_apply();
begin
  perform tests.refused('PT422', format('select tests.report(%L, 1, ''SUCCESS'', 1)', v_provision.id));
  assert (tests.provision(v_provision.id)).status = 'FAILED';
  perform tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]');
  assert tests.report(v_provision.id, 1, 'SUCCESS', 1) = '{"status": "SUCCESS", "changed": true}';
  assert tests.report(v_provision.id, 1, 'SUCCESS', 1) = '{"status": "SUCCESS", "changed": false}';
  assert not exists (select from public.provision_leases);
end $$;

-- scenario: and so does a client without an agent id
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim(null);
  perform tests.silence(v_provision.id, '17 min');
  perform tests.claim(null);
  assert (tests.provision(v_provision.id)).status = 'FAILED';
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (tests.provision(v_provision.id)).status = 'PROCESSING';
  assert tests.report(v_provision.id, null, 'SUCCESS', null, null)
    = '{"status": "SUCCESS", "changed": true}';
end $$;

-- scenario: nobody else does
do $$
declare
  v_provision public.provisions := tests.lost_in_apply();
begin
  assert not (tests.beat(v_provision.id, 1, 'APPLY', tests.other_agent()) ->> 'held')::boolean;
  assert not (tests.beat(v_provision.id, 2, 'APPLY') ->> 'held')::boolean;
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  perform public.agent_heartbeat(tests.cluster(), tests.hash(),
    jsonb_build_object('id', tests.agent()));
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash(), jsonb_build_object(
    'id', tests.agent(), 'leases', jsonb_build_array(jsonb_build_object(
      'provision_id', v_provision.id, 'attempt', 1, 'phase', 'APPLY'))));
  perform tests.refused('PT409',
    format('select tests.report(%L, 1, ''SUCCESS'', null, tests.other_agent())', v_provision.id));
  perform tests.refused('PT409', format('select tests.report(%L, 2, ''SUCCESS'')', v_provision.id));
  perform tests.refused('PT409', format('select tests.report(%L, 1, ''PROCESSING'', null, null)',
    v_provision.id));
  perform tests.refused('PT404', format('select public.update_provision_status(tests.bobs_cluster(),
    tests.bobs_hash(), %L, ''SUCCESS'', null, 1, tests.agent())', v_provision.id));
  assert tests.provision(v_provision.id) = v_provision;
end $$;

-- scenario: once a later provision of the stack has begun, the outcome is kept aside
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_lost public.provisions := tests.lost_in_apply(v_stack);
  v_later public.provisions;
  v_late jsonb;
begin
  perform tests.submit(v_stack);
  v_later := tests.claim(tests.other_agent());
  assert v_later.stack_key = v_lost.stack_key;
  assert not (tests.beat(v_lost.id, 1, 'APPLY') ->> 'held')::boolean;
  perform tests.report(v_later.id, 1, 'SUCCESS', null, tests.other_agent());
  assert not (tests.beat(v_lost.id, 1, 'APPLY') ->> 'held')::boolean;
  perform tests.refused('PT409', format('select tests.report(%L, 1, ''PROCESSING'')', v_lost.id));
  perform tests.refused('PT422', format('select tests.report(%L, 1, ''SUCCESS'', 1)', v_lost.id));
  perform tests.log(v_lost.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]');
  assert public.update_provision_status(tests.cluster(), tests.hash(), v_lost.id, 'SUCCESS', null, 1,
    tests.agent(), 1, null, '{"commit": "c"}')
    = '{"status": "FAILED", "changed": false, "late": true}';
  v_late := (tests.provision(v_lost.id)).execution_metadata -> 'late_result';
  assert v_late - 'reported_at' = '{"status": "SUCCESS", "execution_metadata": {"commit": "c"}}';
  assert (tests.provision(v_lost.id)).error_code = 'AGENT_LOST_DURING_APPLY';
  perform tests.report(v_lost.id, 1, 'FAILED', 1);
  assert (tests.provision(v_lost.id)).execution_metadata -> 'late_result' = v_late;
  assert tests.audited(v_lost.id) = '{provision_claimed,lease_reaped,late_result_kept}';
end $$;

-- scenario: a later provision that only waits does not make the verdict final
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_lost public.provisions := tests.lost_in_apply(v_stack);
begin
  perform tests.submit(v_stack);
  assert (tests.beat(v_lost.id, 1, 'APPLY') ->> 'held')::boolean;
  assert (tests.claim()).id is null;
  perform tests.report(v_lost.id, 1, 'SUCCESS');
  assert (tests.claim()).stack_key = v_lost.stack_key;
end $$;

-- scenario: its logs are taken in any case
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_lost public.provisions := tests.lost_in_apply(v_stack);
begin
  perform tests.submit(v_stack);
  perform tests.claim(tests.other_agent());
  assert tests.log(v_lost.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]')
    = '{"next_seq": 1, "accepted": true, "cancel": "none"}';
end $$;

-- scenario: no other ended provision ever runs again
do $$
declare
  v_provision public.provisions;
  v_status text;
begin
  foreach v_status in array array['SUCCESS', 'FAILED', 'CANCELLED'] loop
    perform tests.submit();
    v_provision := tests.claim();
    perform tests.report(v_provision.id, 1, v_status);
    assert not (tests.beat(v_provision.id, 1, 'APPLY') ->> 'held')::boolean;
    assert (tests.provision(v_provision.id)).status = v_status;
    perform tests.refused('PT409', format(
      'update public.provisions set status = ''PROCESSING'', completed_at = null where id = %L',
      v_provision.id));
  end loop;
end $$;

-- scenario: what was taken up runs beyond the limit, and counts to it
do $$
declare
  v_lost public.provisions;
  v_first public.provisions;
  v_second public.provisions;
begin
  update public.clusters set max_concurrency = 2;
  v_lost := tests.lost_in_apply();
  perform tests.submit(), tests.submit(), tests.submit(), tests.submit();
  v_first := tests.claim();
  v_second := tests.claim();
  assert (tests.beat(v_lost.id, 1, 'APPLY') ->> 'held')::boolean;
  assert (select count(*) from public.provision_leases) = 3;
  perform tests.report(v_first.id, 1, 'SUCCESS');
  assert (tests.claim()).id is null;
  perform tests.report(v_second.id, 1, 'SUCCESS');
  assert (tests.claim()).id is not null;
  assert (tests.claim()).id is null;
  perform tests.report(v_lost.id, 1, 'SUCCESS');
  assert (tests.claim()).id is not null;
  assert (tests.claim()).id is null;
end $$;
