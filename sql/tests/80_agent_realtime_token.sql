-- scenario: null until a secret is configured, and after it is removed
do $$
begin
  assert public.agent_realtime_token(tests.cluster(), tests.hash()) is null;
  perform tendril_private.set_jwt_secret('secret');
  assert public.agent_realtime_token(tests.cluster(), tests.hash()) is not null;
  perform tendril_private.set_jwt_secret('other');
  assert (select array_agg(secret) from tendril_private.jwt_secrets) = '{other}';
  perform tendril_private.set_jwt_secret('');
  assert public.agent_realtime_token(tests.cluster(), tests.hash()) is null;
  perform tendril_private.set_jwt_secret('secret');
  perform tendril_private.set_jwt_secret(null);
  assert public.agent_realtime_token(tests.cluster(), tests.hash()) is null;
end $$;

-- scenario: says when it ends
do $$
declare
  v_answer jsonb;
begin
  perform tendril_private.set_jwt_secret('secret');
  perform tests.as_agent();
  v_answer := public.agent_realtime_token(tests.cluster(), tests.hash());
  assert v_answer ->> 'expires_in_s' = '3600';
  assert (v_answer ->> 'expires_at')::timestamptz - clock_timestamp() between '3590 s' and '3600 s';
  assert v_answer ->> 'token' ~ '^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$';
end $$;
