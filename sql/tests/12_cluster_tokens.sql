-- scenario: after a rotation both tokens work until the old one is revoked
do $$
declare
  v_answer jsonb;
  v_new_hash text;
  v_old_id uuid := (select id from public.cluster_tokens where cluster_id = tests.cluster());
begin
  perform tests.as_owner(tests.alice()::text);
  v_answer := public.rotate_cluster_token(tests.cluster());
  perform tests.as_admin();
  assert v_answer ->> 'cluster_id' = tests.cluster()::text;
  assert v_answer ->> 'token' ~ '^tendril_[0-9a-f]{64}$', v_answer::text;
  v_new_hash := encode(sha256(convert_to(v_answer ->> 'token', 'UTF8')), 'hex');
  assert v_answer ->> 'fingerprint' = left(v_new_hash, 12);
  assert v_answer -> 'expires_at' = 'null';
  perform tests.as_agent();
  perform public.agent_heartbeat(tests.cluster(), tests.hash());
  perform public.agent_heartbeat(tests.cluster(), v_new_hash);
  perform tests.as_owner(tests.alice()::text);
  assert public.revoke_cluster_token(v_old_id)
    = jsonb_build_object('token_id', v_old_id, 'changed', true);
  assert public.revoke_cluster_token(v_old_id)
    = jsonb_build_object('token_id', v_old_id, 'changed', false);
  perform tests.as_agent();
  perform tests.refused('PT401', 'select public.agent_heartbeat(tests.cluster(), tests.hash())');
  perform public.agent_heartbeat(tests.cluster(), v_new_hash);
end $$;

-- scenario: no more than two are live; the expired and the revoked do not count
do $$
declare
  v_second uuid;
begin
  perform tests.as_owner(tests.alice()::text);
  v_second := public.rotate_cluster_token(tests.cluster()) ->> 'token_id';
  perform tests.refused('PT422', 'select public.rotate_cluster_token(tests.cluster())');
  perform public.revoke_cluster_token(v_second);
  v_second := public.rotate_cluster_token(tests.cluster()) ->> 'token_id';
  perform tests.as_admin();
  update public.cluster_tokens set expires_at = now() where id = v_second;
  perform tests.as_owner(tests.alice()::text);
  perform public.rotate_cluster_token(tests.cluster());
  perform tests.refused('PT422', 'select public.rotate_cluster_token(tests.cluster())');
end $$;

-- scenario: both ends can be set; an earlier end of the old token stays
do $$
declare
  v_in_an_hour timestamptz := now() + interval '1 hour';
  v_second uuid;
begin
  perform tests.as_owner(tests.alice()::text);
  v_second := public.rotate_cluster_token(tests.cluster(),
    now() + interval '1 day', v_in_an_hour) ->> 'token_id';
  perform tests.as_admin();
  assert (select expires_at from public.cluster_tokens where id = v_second)
    = now() + interval '1 day';
  assert (select expires_at from public.cluster_tokens
    where cluster_id = tests.cluster() and id <> v_second) = v_in_an_hour;
  assert (select expires_at from public.cluster_tokens
    where cluster_id = tests.bobs_cluster()) is null;
  perform tests.as_owner(tests.alice()::text);
  perform public.revoke_cluster_token(v_second);
  perform public.rotate_cluster_token(tests.cluster(), null, now() + interval '1 week');
  perform tests.as_admin();
  assert (select max(expires_at) from public.cluster_tokens
    where cluster_id = tests.cluster() and revoked_at is null) = v_in_an_hour;
end $$;

-- scenario: the owner sees which token is which, and no secret
do $$
declare
  v_fingerprint text;
begin
  perform tests.as_owner(tests.alice()::text);
  v_fingerprint := public.rotate_cluster_token(tests.cluster()) ->> 'fingerprint';
  assert (select count(*) from public.cluster_tokens t where t.fingerprint = v_fingerprint) = 1;
  perform tests.refused('42501', 'select verifier from public.cluster_tokens');
end $$;

-- scenario: strangers, agents, nobody, hostile input
do $$
declare
  v_call text;
  v_token uuid := (select id from public.cluster_tokens where cluster_id = tests.cluster());
begin
  foreach v_call in array array[
    'select public.rotate_cluster_token(%1$L)', 'select public.revoke_cluster_token(%2$L)',
    'select public.set_cluster_options(%1$L, 2, true)']
  loop
    perform tests.as_owner(tests.bob()::text);
    assert tests.refused('PT404', format(v_call, tests.cluster(), v_token))
      = tests.refused('PT404', format(v_call, gen_random_uuid(), gen_random_uuid()));
    perform tests.refused('PT404', format(v_call, null, null));
    perform tests.as_agent(jsonb_build_object('role', 'anon', 'sub', tests.alice()));
    perform tests.refused('42501', format(v_call, tests.cluster(), v_token));
    perform tests.as_owner('hostile');
    perform tests.refused('PT401', format(v_call, tests.cluster(), v_token));
  end loop;
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('PT422', 'select public.rotate_cluster_token(tests.cluster(), now())');
  perform tests.refused('PT422', 'select public.rotate_cluster_token(tests.cluster(), ''-infinity'')');
  perform tests.as_admin();
  assert (select count(*) from public.cluster_tokens where revoked_at is null) = 2;
end $$;

-- scenario: a hash in capitals is the same hash; one that goes on is another
do $$
begin
  perform public.agent_heartbeat(tests.cluster(), upper(tests.hash()));
  perform tests.refused('PT401',
    'select public.agent_heartbeat(tests.cluster(), tests.hash() || ''0'')');
  perform tests.refused('PT401',
    'select public.agent_heartbeat(tests.cluster(), tests.hash() || repeat(''0'', 1000000))');
end $$;
