-- scenario: the claim gives the row, PROCESSING under a fresh lease
do $$
declare
  v_id uuid := tests.submit();
  v_provision public.provisions;
begin
  perform tests.as_agent();
  select * into v_provision from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.agent(), tests.other_agent());
  perform tests.as_admin();
  assert v_provision = tests.provision(v_id);
  assert v_provision.status = 'PROCESSING' and v_provision.attempt = 1;
  assert v_provision.claimed_by = tests.agent() and v_provision.started_at >= now();
  assert (select array[l.agent_id, l.claim_id] from public.provision_leases l
    where l.provision_id = v_id and l.attempt = 1 and l.phase = 'PREPARE'
      and l.stack_key = v_provision.stack_key
      and l.expires_at - clock_timestamp() between '89 s' and '90 s')
    = array[tests.agent(), tests.other_agent()];
end $$;

-- scenario: nothing queued, or only for another cluster: no row
do $$
begin
  perform tests.submit(p_cluster_id => tests.bobs_cluster());
  assert not exists (select from public.fetch_next_provision(tests.cluster(), tests.hash()));
end $$;

-- scenario: in order of submission
do $$
declare
  v_ids uuid[] := array[tests.submit(), tests.submit(), tests.submit()];
begin
  assert array[(tests.claim()).id, (tests.claim()).id, (tests.claim()).id] = v_ids;
  assert (tests.claim()).id is null;
end $$;

-- scenario: at most max_concurrency at once; 0 pauses the cluster
do $$
declare
  v_first public.provisions;
begin
  perform tests.submit(), tests.submit(), tests.submit();
  update public.clusters set max_concurrency = 0;
  assert (tests.claim()).id is null;
  update public.clusters set max_concurrency = 2;
  v_first := tests.claim();
  assert (tests.claim()).id is not null;
  assert (tests.claim()).id is null;
  perform tests.report(v_first.id, 1, 'SUCCESS');
  assert (tests.claim()).id is not null;
end $$;

-- scenario: one per stack, also across clusters; other stacks go ahead
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_first uuid := tests.submit(v_stack);
  v_second uuid := tests.submit(v_stack);
  v_other uuid := tests.submit();
begin
  perform tests.submit(v_stack, tests.bobs_cluster());
  assert (tests.claim()).id = v_first;
  assert (tests.claim()).id = v_other;
  assert (tests.claim()).id is null;
  assert not exists (select from public.fetch_next_provision(tests.bobs_cluster(), tests.bobs_hash()));
  perform tests.report(v_first, 1, 'FAILED');
  assert (tests.claim()).id = v_second;
end $$;

-- scenario: a waiting provision is not overtaken by a later one of its stack
do $$
declare
  v_stack uuid := gen_random_uuid();
  v_first uuid := tests.submit(v_stack);
begin
  perform tests.submit(v_stack);
  update public.provisions set not_before = now() + interval '1 min' where id = v_first;
  assert (tests.claim()).id is null;
  update public.provisions set not_before = now() where id = v_first;
  assert (tests.claim()).id = v_first;
end $$;

-- scenario: the same claim again gets the same answer with a renewed lease, and nobody else does
do $$
declare
  v_claim uuid := gen_random_uuid();
  v_first public.provisions;
  v_again public.provisions;
begin
  perform tests.submit(), tests.submit();
  select * into v_first from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.agent(), v_claim);
  perform tests.silence(v_first.id, '60 s');
  select * into v_again from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.agent(), v_claim);
  assert v_again = v_first;
  assert (select count(*) from public.provision_leases
    where expires_at > clock_timestamp() + interval '89 s') = 1;
  assert not exists (select from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.other_agent(), v_claim));
  assert not exists (select from public.fetch_next_provision(
    tests.bobs_cluster(), tests.bobs_hash(), tests.agent(), v_claim));
end $$;

-- scenario: an ended claim is not replayed
do $$
declare
  v_claim uuid := gen_random_uuid();
  v_first public.provisions;
begin
  perform tests.submit();
  select * into v_first from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.agent(), v_claim);
  perform tests.report(v_first.id, 1, 'SUCCESS');
  assert not exists (select from public.fetch_next_provision(
    tests.cluster(), tests.hash(), tests.agent(), v_claim));
end $$;

-- scenario: a claim is replayed where nothing else could be claimed
do $$
declare
  v_claim uuid := gen_random_uuid();
  v_first public.provisions;
begin
  perform tests.submit();
  update public.clusters set max_concurrency = 1;
  for v_sending in 1 .. 3 loop
    select * into v_first from public.fetch_next_provision(
      tests.cluster(), tests.hash(), tests.agent(), v_claim);
    assert v_first.attempt = 1 and (select count(*) from public.provision_leases) = 1;
    perform tests.submit();  -- now the cluster is full, which is another way of finding nothing
  end loop;
end $$;

-- scenario: each claim takes a slot of its own, and a freed one is taken again
do $$
declare
  v_first public.provisions;
begin
  update public.clusters set max_concurrency = 3;
  perform tests.submit(), tests.submit(), tests.submit(), tests.submit();
  v_first := tests.claim();
  perform tests.claim(), tests.claim();
  assert (select array_agg(l.slot order by l.slot) from public.provision_leases l) = '{1,2,3}';
  perform tests.report(v_first.id, 1, 'SUCCESS');
  assert (tests.claim()).id is not null;
  assert (select array_agg(l.slot order by l.slot) from public.provision_leases l) = '{1,2,3}';
end $$;

-- scenario: above a lowered limit nothing is claimed until fewer run, whichever slots they have
do $$
declare
  v_ids uuid[];
begin
  update public.clusters set max_concurrency = 4;
  perform tests.submit(), tests.submit(), tests.submit(), tests.submit(), tests.submit(),
    tests.submit();
  perform tests.claim(), tests.claim(), tests.claim(), tests.claim();
  perform tests.as_owner(tests.alice()::text);
  perform public.set_cluster_options(tests.cluster(), 2);
  perform tests.as_admin();
  v_ids := array(select l.provision_id from public.provision_leases l order by l.slot);
  perform tests.report(v_ids[1], 1, 'SUCCESS');
  assert (tests.claim()).id is null;
  perform tests.report(v_ids[2], 1, 'SUCCESS');
  assert (tests.claim()).id is null;
  perform tests.report(v_ids[3], 1, 'SUCCESS');
  assert (tests.claim()).id is not null;
  assert (tests.claim()).id is null;
  assert (select array_agg(l.slot order by l.slot) from public.provision_leases l) = '{1,4}';
end $$;

-- scenario: a lease without a slot, as those of earlier releases, counts all the same
do $$
begin
  update public.clusters set max_concurrency = 2;
  perform tests.submit(), tests.submit(), tests.submit();
  perform tests.claim();
  update public.provision_leases set slot = null;
  assert (tests.claim()).id is not null;
  assert (tests.claim()).id is null;
end $$;
