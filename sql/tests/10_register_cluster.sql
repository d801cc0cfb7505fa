-- scenario: the token is answered once, kept as a verifier, and lets the agent in
do $$
declare
  v_answer jsonb;
  v_hash text;
begin
  perform tests.as_owner(tests.alice()::text);
  v_answer := public.register_cluster('  new  ', 3);
  assert (select c.name || c.status || c.max_concurrency from public.clusters c
    where c.id = (v_answer ->> 'cluster_id')::uuid) = 'newPENDING3';
  perform tests.as_admin();
  assert v_answer ->> 'token' ~ '^tendril_[0-9a-f]{64}$', v_answer::text;
  v_hash := encode(sha256(convert_to(v_answer ->> 'token', 'UTF8')), 'hex');
  assert (select verifier from public.cluster_tokens
    where cluster_id = (v_answer ->> 'cluster_id')::uuid) = sha256(convert_to(v_hash, 'UTF8'));
  perform tests.as_agent();
  perform public.agent_heartbeat((v_answer ->> 'cluster_id')::uuid, v_hash);
end $$;

-- scenario: two clusters never share a token
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  assert public.register_cluster('a') ->> 'token' <> public.register_cluster('a') ->> 'token';
end $$;

-- scenario: nobody signed in, or a subject that is no uuid
do $$
begin
  perform tests.refused('PT401', 'select public.register_cluster(''x'')');
  perform tests.as_owner('hostile');
  perform tests.refused('PT401', 'select public.register_cluster(''x'')');
end $$;

-- scenario: illegal names and limits
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('PT422', 'select public.register_cluster(null)');
  perform tests.refused('PT422', 'select public.register_cluster('' '')');
  perform tests.refused('PT422', 'select public.register_cluster(repeat(''hostile'', 99))');
  perform tests.refused('PT422', 'select public.register_cluster(''x'', -1)');
  perform tests.refused('PT422', 'select public.register_cluster(''x'', 1001)');
end $$;

-- scenario: agents may not register
do $$
begin
  perform tests.as_agent(jsonb_build_object('role', 'anon', 'sub', tests.alice()));
  perform tests.refused('42501', 'select public.register_cluster(''x'')');
end $$;
