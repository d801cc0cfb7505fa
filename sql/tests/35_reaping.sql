-- scenario: silent before APPLY: queued again with a wait, and the late agent is fenced out
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.beat(v_provision.id, 1, 'PLAN');
  perform tests.silence(v_provision.id, '104 s');
  perform tests.claim();
  assert (select count(*) from public.provision_leases) = 1;
  perform tests.silence(v_provision.id, '106 s');
  perform tests.claim();
  assert (select count(*) from public.provision_leases) = 0;
  v_provision := tests.provision(v_provision.id);
  assert v_provision.status = 'QUEUED' and v_provision.attempt = 1;
  assert v_provision.started_at is null;
  assert v_provision.not_before - clock_timestamp() between '3 s' and '6.5 s';
  assert not (tests.beat(v_provision.id, 1, 'APPLY') ->> 'held')::boolean;
  perform tests.refused('PT409', format('select tests.report(%L, 1, ''SUCCESS'')', v_provision.id));
  update public.provisions set not_before = now();
  v_provision := tests.claim(tests.other_agent());
  assert v_provision.attempt = 2 and v_provision.claimed_by = tests.other_agent();
end $$;

-- scenario: a silent agent that returns in time keeps its lease
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '106 s');
  assert (tests.beat(v_provision.id, 1, 'PLAN') ->> 'held')::boolean;
  assert (tests.provision(v_provision.id)).status = 'PROCESSING';
end $$;

-- scenario: attempts are used up
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  for v_attempt in 1 .. 3 loop
    update public.provisions set not_before = now();
    v_provision := tests.claim();
    assert v_provision.attempt = v_attempt;
    perform tests.silence(v_provision.id, '106 s');
    perform public.agent_heartbeat(tests.cluster(), tests.hash());
  end loop;
  v_provision := tests.provision(v_provision.id);
  assert v_provision.status = 'FAILED' and v_provision.error_code = 'AGENT_LOST';
  assert v_provision.error_message like '%ends of their logs may be missing%';
  assert v_provision.completed_at is not null;
end $$;

-- scenario: silent in APPLY: its stack stays reserved, then FAILED, never queued again
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_provision public.provisions;
begin
  perform tests.submit(v_stack), tests.submit(v_stack);
  v_provision := tests.claim();
  perform tests.beat(v_provision.id, 1, 'APPLY');
  perform tests.silence(v_provision.id, '16 min');
  assert (tests.claim()).id is null;
  assert (tests.provision(v_provision.id)).status = 'PROCESSING';
  perform tests.silence(v_provision.id, '17 min');
  assert (tests.claim()).id is distinct from v_provision.id;
  v_provision := tests.provision(v_provision.id);
  assert v_provision.status = 'FAILED' and v_provision.error_code = 'AGENT_LOST_DURING_APPLY';
  assert v_provision.error_message like '%end of the log may be missing%';
  assert (select count(*) from public.provision_leases) = 1;
end $$;

-- scenario: a client without an agent id may be applying at any moment
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim(null);
  perform tests.silence(v_provision.id, '16 min');
  assert (tests.claim(null)).id is null;
  perform tests.silence(v_provision.id, '17 min');
  assert (tests.claim(null)).id is null;
  assert (tests.provision(v_provision.id)).error_code = 'AGENT_LOST_DURING_APPLY';
end $$;

-- scenario: cancelled while silent before APPLY: not queued again
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  update public.provisions set cancel_requested_at = now();
  perform tests.silence(v_provision.id, '106 s');
  perform tests.claim();
  v_provision := tests.provision(v_provision.id);
  assert v_provision.status = 'CANCELLED';
  assert v_provision.error_message like '%end of the log may be missing%';
end $$;

-- scenario: another cluster's heartbeat notices the lone dead agent, but not at every beat
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  perform tests.silence(v_provision.id, '106 s');
  update public.clusters set last_heartbeat = now() - interval '91 s' where id = tests.cluster();
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash());
  assert (select count(*) from public.provision_leases) = 1;
  update tendril_private.sweeps set swept_at = now() - interval '6 s';
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash());
  assert (select count(*) from public.provision_leases) = 0;
  assert (select status from public.clusters where id = tests.cluster()) = 'OFFLINE';
  assert (select status from public.clusters where id = tests.bobs_cluster()) = 'ONLINE';
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  assert (select status from public.clusters where id = tests.cluster()) = 'ONLINE';
end $$;

-- scenario: waits double up to the cap
do $$
declare
  v_provision public.provisions;
  v_wait interval;
begin
  perform tests.submit();
  update public.provisions set max_attempts = 20;
  for v_attempt in 1 .. 12 loop
    update public.provisions set not_before = now();
    v_provision := tests.claim();
    perform tests.silence(v_provision.id, '106 s');
    perform tests.claim();
    v_wait := (tests.provision(v_provision.id)).not_before - clock_timestamp();
    assert v_wait between least('10 min', '5 s'::interval * 2 ^ (v_attempt - 1)) * 0.74
      and least('10 min', '5 s'::interval * 2 ^ (v_attempt - 1)) * 1.25, v_wait::text;
  end loop;
end $$;
