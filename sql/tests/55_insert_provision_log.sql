-- scenario: numbers and offsets are given here
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim(null);
  perform public.insert_provision_log(tests.cluster(), tests.hash(), v_provision.id, 'né', 'stdout');
  perform public.insert_provision_log(tests.cluster(), tests.hash(), v_provision.id, 'oh', 'STDERR');
  assert (select array_agg(concat_ws(' ', attempt, seq, byte_offset, stream_type, log_chunk)
    order by seq) from public.provision_logs) = array['1 0 0 STDOUT né', '1 1 3 STDERR oh'];
end $$;

-- scenario: also after the end
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim(null);
  perform tests.report(v_provision.id, null, 'SUCCESS', null, null);
  perform public.insert_provision_log(tests.cluster(), tests.hash(), v_provision.id, 'x', 'SYSTEM');
end $$;

-- scenario: refused for an agent's attempt, before any attempt, for strangers, for hostile input
do $$
declare
  v_call text := 'select public.insert_provision_log(tests.cluster(), tests.hash(), %L, %s)';
  v_queued uuid;
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  v_queued := tests.submit();
  perform tests.refused('PT409', format(v_call, v_provision.id, '''x'', ''STDOUT'''));
  perform tests.refused('PT409', format(v_call, v_queued, '''x'', ''STDOUT'''));
  perform tests.refused('PT404', format(v_call, gen_random_uuid(), '''x'', ''STDOUT'''));
  perform tests.refused('PT422', format(v_call, v_queued, '''x'', ''hostile'''));
  perform tests.refused('PT422', format(v_call, v_queued, '''x'', null'));
  perform tests.refused('PT422', format(v_call, v_queued, 'null, ''STDOUT'''));
  perform tests.refused('PT422', format(v_call, v_queued, 'repeat(''x'', 65537), ''STDOUT'''));
end $$;
