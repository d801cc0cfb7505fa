-- scenario: a queued provision is cancelled at once
do $$
declare
  v_id uuid := tests.submit();
begin
  perform tests.as_owner(tests.alice()::text);
  assert public.cancel_provision(v_id)
    = '{"status": "CANCELLED", "changed": true, "cancel": "graceful"}';
  perform tests.as_admin();
  assert (tests.provision(v_id)).completed_at is not null;
  assert (tests.claim()).id is null;
end $$;

-- scenario: a running one is told to stop, then forced; repeating changes nothing
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.as_owner(tests.alice()::text);
  assert public.cancel_provision(v_provision.id)
    = '{"status": "PROCESSING", "changed": true, "cancel": "graceful"}';
  assert public.cancel_provision(v_provision.id)
    = '{"status": "PROCESSING", "changed": false, "cancel": "graceful"}';
  assert public.cancel_provision(v_provision.id, true)
    = '{"status": "PROCESSING", "changed": true, "cancel": "force"}';
  assert public.cancel_provision(v_provision.id, null)
    = '{"status": "PROCESSING", "changed": false, "cancel": "force"}';
end $$;

-- scenario: an ended one stays as it is
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.report(v_provision.id, 1, 'SUCCESS');
  perform tests.as_owner(tests.alice()::text);
  assert public.cancel_provision(v_provision.id, true)
    = '{"status": "SUCCESS", "changed": false, "cancel": "none"}';
end $$;

-- scenario: strangers, agents and nobody
do $$
declare
  v_call text := format('select public.cancel_provision(%L)', tests.submit());
begin
  perform tests.refused('PT401', v_call);
  perform tests.as_owner(tests.bob()::text);
  assert tests.refused('PT404', v_call)
    = tests.refused('PT404', 'select public.cancel_provision(gen_random_uuid())');
  perform tests.as_agent(jsonb_build_object('role', 'anon', 'sub', tests.alice()));
  perform tests.refused('42501', v_call);
end $$;
