-- scenario: logs go when their provision ended long ago; the author learns that it is over
do $$
declare
  v_old public.provisions;
  v_recent public.provisions;
  v_running public.provisions;
  v_chunk jsonb := '[{"s": "STDOUT", "o": 0, "t": "a"}]';
begin
  perform tests.submit(), tests.submit(), tests.submit();
  v_old := tests.claim();
  v_recent := tests.claim();
  v_running := tests.claim();
  perform tests.log(p.id, 1, 0, v_chunk) from public.provisions p;
  perform tests.report(v_old.id, 1, 'SUCCESS'), tests.report(v_recent.id, 1, 'FAILED');
  update public.provisions set completed_at = now() - interval '31 days' where id = v_old.id;
  perform tests.as_service();
  assert public.prune_logs('30 days') = '{"provisions": 1, "chunks": 1}';
  assert public.prune_logs('30 days') = '{"provisions": 0, "chunks": 0}';
  perform tests.as_admin();
  assert (select count(*) from public.provision_logs) = 2;
  assert (tests.provision(v_old.id)).logs_pruned_at is not null;
  perform tests.refused('PT409', format('select tests.log(%L, 1, 0, %L)', v_old.id, v_chunk));
  perform tests.log(v_recent.id, 1, 1, '[]'), tests.log(v_running.id, 1, 1, '[]');
end $$;

-- scenario: the verdict on a lost attempt is final with its logs gone
do $$
declare
  v_lost public.provisions := tests.lost_in_apply();
begin
  perform public.prune_logs('0');
  assert not (tests.beat(v_lost.id, 1, 'APPLY') ->> 'held')::boolean;
  assert (tests.provision(v_lost.id)).status = 'FAILED';
end $$;

-- scenario: at most so many at once; hostile input
do $$
begin
  perform tests.submit(), tests.submit(), tests.submit();
  update public.provisions set status = 'CANCELLED', completed_at = now() - interval '1 s';
  assert public.prune_logs('0', 2) ->> 'provisions' = '2';
  assert public.prune_logs('0', 2) ->> 'provisions' = '1';
  perform tests.refused('PT422', 'select public.prune_logs(null)');
  perform tests.refused('PT422', 'select public.prune_logs(''-1 day'')');
  perform tests.refused('2201W', 'select public.prune_logs(''1 day'', -1)');
end $$;
