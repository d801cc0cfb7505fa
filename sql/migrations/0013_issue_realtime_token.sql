-- The token with which an agent listens to Realtime: it sees its own cluster and nothing else.

create function public.agent_realtime_token(p_cluster_id uuid, p_token_hash text) returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  c_lifetime_s constant int := 3600;
  v_now bigint := floor(extract(epoch from clock_timestamp()));
  v_secret text;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  select s.secret into v_secret from tendril_private.jwt_secrets s where s.one_row;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'token', tendril_private.sign_jwt(
      jsonb_build_object(
        'role', 'anon',
        'cluster_id', p_cluster_id,
        'iat', v_now,
        'exp', v_now + c_lifetime_s),
      v_secret),
    'expires_at', to_timestamp(v_now + c_lifetime_s),
    'expires_in_s', c_lifetime_s);
end $$;
comment on function public.agent_realtime_token(uuid, text) is
  'For agents: a JWT of role anon for the policy agent_listens, good for an hour. Answers {token, '
  'expires_at, expires_in_s}, or null where no secret is configured (tendril_private.set_jwt_secret).';

revoke all on function public.agent_realtime_token(uuid, text)
  from public, anon, authenticated, service_role;
grant execute on function public.agent_realtime_token(uuid, text) to anon;
