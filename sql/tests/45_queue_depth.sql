-- scenario: what waits, what is ready, what runs
do $$
declare
  v_id uuid;
  v_row record;
begin
  v_id := tests.submit();
  perform tests.submit(), tests.submit(), tests.submit(p_cluster_id => tests.bobs_cluster());
  perform tests.claim();
  update public.provisions set not_before = now() + interval '1 hour' where id = (
    select id from public.provisions where status = 'QUEUED' and cluster_id = tests.cluster() limit 1);
  perform tests.as_owner(tests.alice()::text);
  select * into strict v_row from public.queue_depth(tests.cluster());
  assert (v_row.queued, v_row.ready, v_row.running, v_row.max_concurrency) = (2, 1, 1, 10),
    v_row::text;
  assert v_row.oldest_queued_at = now() and v_row.cluster_id = tests.cluster();
  assert (select array_agg(q.cluster_id) from public.queue_depth() q) = array[tests.cluster()];
end $$;

-- scenario: an empty queue is a row of zeros; a stranger's cluster is none
do $$
begin
  perform tests.as_owner(tests.bob()::text);
  assert (select q.queued + q.ready + q.running from public.queue_depth(tests.bobs_cluster()) q
    where q.oldest_queued_at is null) = 0;
  assert not exists (select from public.queue_depth(tests.cluster()));
  assert not exists (select from public.queue_depth(gen_random_uuid()));
  perform tests.as_owner('hostile');
  assert not exists (select from public.queue_depth());
  perform tests.as_agent(jsonb_build_object('role', 'anon', 'cluster_id', tests.cluster()));
  perform tests.refused('42501', 'select * from public.queue_depth()');
  perform tests.as_service();
  assert (select count(*) from public.queue_depth()) = 2;
end $$;
