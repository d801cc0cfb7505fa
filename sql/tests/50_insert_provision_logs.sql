-- scenario: stored in order, offsets count UTF-8 bytes, streams share one sequence
do $$
declare
  v_provision public.provisions;
  v_answer jsonb;
begin
  perform tests.submit();
  v_provision := tests.claim();
  v_answer := tests.log(v_provision.id, 1, 0,
    '[{"s": "STDOUT", "o": 0, "t": "né\n"}, {"s": "STDERR", "o": 4, "t": "oh"}]');
  assert v_answer = '{"next_seq": 2, "accepted": true, "cancel": "none"}', v_answer::text;
  v_answer := tests.log(v_provision.id, 1, 2, '[{"s": "SYSTEM", "o": 6, "t": ""}]');
  assert v_answer ->> 'next_seq' = '3';
  assert (select array_agg(stream_type || byte_offset || log_chunk order by seq)
    from public.provision_logs where provision_id = v_provision.id and attempt = 1)
    = array[E'STDOUT0né\n', 'STDERR4oh', 'SYSTEM6'];
end $$;

-- scenario: repeated and overlapping deliveries store each chunk once
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]');
  assert tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"}]') ->> 'next_seq' = '1';
  assert tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "a"},
    {"s": "STDOUT", "o": 1, "t": "b"}]') ->> 'next_seq' = '2';
  assert tests.log(v_provision.id, 1, 0, '[]') = '{"next_seq": 2, "accepted": true, "cancel": "none"}';
  assert (select string_agg(log_chunk, '' order by seq) from public.provision_logs) = 'ab';
end $$;

-- scenario: a gap is answered with where to go back to
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  assert tests.log(v_provision.id, 1, 3, '[{"s": "STDOUT", "o": 9, "t": "a"}]')
    = '{"next_seq": 0, "accepted": false, "cancel": "none"}';
  assert not exists (select from public.provision_logs);
end $$;

-- scenario: an offset that does not add up is refused, with the whole batch
do $$
declare
  v_provision public.provisions;
  v_offset text;
begin
  perform tests.submit();
  v_provision := tests.claim();
  foreach v_offset in array array['0', '2', '-1', '1.5', '1e30'] loop
    perform tests.refused('PT422', format('select tests.log(%L, 1, 0, %L)', v_provision.id,
      format('[{"s": "STDOUT", "o": 0, "t": "a"}, {"s": "STDOUT", "o": %s, "t": "b"}]', v_offset)));
  end loop;
  assert not exists (select from public.provision_logs);
end $$;

-- scenario: the author delivers after the end; a superseded attempt and strangers do not
do $$
declare
  v_provision public.provisions;
  v_chunk text := '[{"s": "STDOUT", "o": 0, "t": "a"}]';
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '106 s');
  perform tests.claim();
  assert tests.log(v_provision.id, 1, 0, v_chunk::jsonb) ->> 'next_seq' = '1';
  update public.provisions set not_before = now();
  perform tests.claim(tests.other_agent());
  perform tests.refused('PT409', format('select tests.log(%L, 1, 1, ''[]'')', v_provision.id));
  perform tests.refused('PT409', format('select tests.log(%L, 2, 0, %L)', v_provision.id, v_chunk));
  perform tests.refused('PT409',
    format('select tests.log(%L, 3, 0, ''[]'', tests.other_agent())', v_provision.id));
  perform tests.refused('PT409', format('select tests.log(%L, null, 0, ''[]'')', v_provision.id));
  perform tests.refused('PT409', format('select tests.log(%L, 2, 0, ''[]'', null)', v_provision.id));
  perform tests.report(v_provision.id, 2, 'SUCCESS', null, tests.other_agent());
  assert tests.log(v_provision.id, 2, 0, v_chunk::jsonb, tests.other_agent()) ->> 'next_seq' = '1';
  assert (select array_agg(attempt || ':' || seq order by attempt) from public.provision_logs)
    = '{1:0,2:0}';
end $$;

-- scenario: never claimed, unknown, or another cluster's
do $$
declare
  v_id uuid := tests.submit();
begin
  perform tests.refused('PT409', format('select tests.log(%L, 0, 0, ''[]'', null)', v_id));
  perform tests.refused('PT404', 'select tests.log(gen_random_uuid(), 1, 0, ''[]'')');
  perform tests.refused('PT404', format('select public.insert_provision_logs(tests.bobs_cluster(),
    tests.bobs_hash(), %L, 1, tests.agent(), 0, ''[]'')', v_id));
end $$;

-- scenario: tells what the owner asked for
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  update public.provisions set cancel_requested_at = now();
  assert tests.log(v_provision.id, 1, 0, '[]') ->> 'cancel' = 'graceful';
end $$;

-- scenario: hostile input
do $$
declare
  v_provision public.provisions;
  v_chunks text;
begin
  perform tests.submit();
  v_provision := tests.claim();
  foreach v_chunks in array array[
    '{}', '"hostile"', 'null', '[1]', '[null]', '[{}]', '[[]]',
    '[{"s": "hostile", "o": 0, "t": "a"}]', '[{"s": null, "o": 0, "t": "a"}]',
    '[{"s": "STDOUT", "o": "0", "t": "a"}]', '[{"s": "STDOUT", "t": "a"}]',
    '[{"s": "STDOUT", "o": 0, "t": null}]', '[{"s": "STDOUT", "o": 0, "t": ["hostile"]}]',
    '[{"s": "STDOUT", "o": 0}]']
  loop
    perform tests.refused('PT422', format('select tests.log(%L, 1, 0, %L)', v_provision.id, v_chunks));
  end loop;
  perform tests.refused('PT422', format('select tests.log(%L, 1, 0, null)', v_provision.id));
  perform tests.refused('PT422', format('select tests.log(%L, 1, -1, ''[]'')', v_provision.id));
  perform tests.refused('PT422', format('select tests.log(%L, 1, null, ''[]'')', v_provision.id));
  perform tests.refused('PT422', format('select tests.log(%L, 1, 0,
    jsonb_build_array(jsonb_build_object(''s'', ''STDOUT'', ''o'', 0, ''t'', repeat(''é'', 32769))))',
    v_provision.id));
  perform tests.refused('PT422', format('select tests.log(%L, 1, 0,
    (select jsonb_agg(jsonb_build_object(''s'', ''STDOUT'', ''o'', i, ''t'', ''x''))
      from generate_series(0, 1000) i))', v_provision.id));
  assert not exists (select from public.provision_logs);
end $$;

-- scenario: the largest batch
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  assert tests.log(v_provision.id, 1, 0, (select jsonb_agg(jsonb_build_object(
      's', 'STDOUT', 'o', i * 65536, 't', repeat('x', 65536))) from generate_series(0, 9) i))
    ->> 'next_seq' = '10';
  assert tests.log(v_provision.id, 1, 10, (select jsonb_agg(jsonb_build_object(
      's', 'STDOUT', 'o', 655360 + i, 't', 'x') order by i) from generate_series(0, 999) i))
    ->> 'next_seq' = '1010';
end $$;
