-- scenario: owners see what is theirs, strangers nothing
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  perform tests.submit(p_cluster_id => tests.bobs_cluster());
  v_provision := tests.claim();
  perform tests.log(v_provision.id, 1, 0, '[{"s": "STDOUT", "o": 0, "t": "hello"}]');
  perform tests.as_owner(tests.alice()::text);
  assert (select array_agg(id) from public.clusters) = array[tests.cluster()];
  assert (select count(*) from public.cluster_tokens t where t.id is not null) = 1;
  assert (select array_agg(id) from public.provisions) = array[v_provision.id];
  assert (select array_agg(provision_id) from public.provision_leases) = array[v_provision.id];
  assert (select array_agg(log_chunk) from public.provision_logs) = '{hello}';
  perform tests.as_owner(tests.bob()::text);
  assert (select array_agg(cluster_id) from public.provisions) = array[tests.bobs_cluster()];
  assert not exists (select from public.provision_leases);
  assert not exists (select from public.provision_logs);
  perform tests.as_owner('no uuid');
  assert not exists (select from public.clusters);
end $$;

-- scenario: an agent's token shows four columns of its own cluster's provisions
do $$
declare
  v_id uuid := tests.submit();
begin
  perform tests.submit(p_cluster_id => tests.bobs_cluster());
  perform tests.as_agent(jsonb_build_object('role', 'anon', 'cluster_id', tests.cluster()));
  assert (select array_agg(id) from public.provisions) = array[v_id];
  assert (select array_agg(p) from (select cluster_id, status, created_at from public.provisions) p)
    is not null;
  perform tests.refused('42501', 'select config_snapshot from public.provisions');
  perform tests.refused('42501', 'select * from public.clusters');
  perform tests.refused('42501', 'select * from public.provision_logs');
  perform tests.refused('42501', 'select * from public.provision_leases');
  perform tests.refused('42501', 'select id from public.cluster_tokens');
end $$;

-- scenario: without a claim, or with a malformed one, anon sees no row and breaks nothing
do $$
begin
  perform tests.submit();
  perform tests.as_agent();
  assert not exists (select id from public.provisions);
  perform tests.as_agent('{"role": "anon", "cluster_id": "hostile"}');
  assert not exists (select id from public.provisions);
  perform set_config('request.jwt.claims', '', true);
  assert not exists (select id from public.provisions);
end $$;

-- scenario: owners write through functions only
do $$
declare
  v_statement text;
begin
  perform tests.submit();
  perform tests.as_owner(tests.alice()::text);
  foreach v_statement in array array[
    'update public.provisions set status = ''SUCCESS''',
    'update public.clusters set max_concurrency = 99',
    'delete from public.provisions',
    'insert into public.clusters (user_id, name) values (gen_random_uuid(), ''x'')',
    'insert into public.provision_logs (provision_id) values (gen_random_uuid())',
    'insert into public.provision_leases (provision_id) values (gen_random_uuid())',
    'update public.cluster_tokens set revoked_at = null',
    'select verifier from public.cluster_tokens',
    'truncate public.provisions',
    'select nextval(''public.provisions_seq_seq'')',
    'select tendril_private.caller()',
    'select * from tendril_private.jwt_secrets']
  loop
    perform tests.refused('42501', v_statement);
  end loop;
end $$;

-- scenario: no API role reaches the secret or the helpers
do $$
declare
  v_role text;
begin
  perform tendril_private.set_jwt_secret('s');
  foreach v_role in array array['anon', 'authenticated', 'authenticator'] loop
    perform set_config('role', v_role, true);
    perform tests.refused('42501', 'select secret from tendril_private.jwt_secrets');
    perform tests.refused('42501', 'select tendril_private.set_jwt_secret(''x'')');
    perform tests.refused('42501', 'update tendril_private.settings set lease_ttl = ''1 day''');
  end loop;
  perform set_config('role', 'service_role', true);
  perform tests.refused('42501', 'select secret from tendril_private.jwt_secrets');
  perform tendril_private.set_jwt_secret('t');
end $$;
