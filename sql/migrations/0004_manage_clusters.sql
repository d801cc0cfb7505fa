-- How an agent proves which cluster it is of, and what owners do with clusters and tokens.

create function tendril_private.hash_of(p_token text) returns text
language sql stable parallel safe
return encode(sha256(convert_to(p_token, 'UTF8')), 'hex');
comment on function tendril_private.hash_of(text) is
  'What agents send instead of their token: its sha256 in hex.';

create function tendril_private.verifier_of(p_token_hash text) returns bytea
language sql stable parallel safe
return sha256(convert_to(lower(left(coalesce(p_token_hash, ''), 65)), 'UTF8'));
comment on function tendril_private.verifier_of(text) is
  'cluster_tokens.verifier for the hash that an agent sends. Of what is longer than a hash no more is '
  'read than shows that it is none.';

create function tendril_private.authenticate(p_cluster_id uuid, p_token_hash text) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_verifier bytea := tendril_private.verifier_of(p_token_hash);
  v_cluster_id uuid := coalesce(p_cluster_id, '00000000-0000-0000-0000-000000000000');
  v_token public.cluster_tokens;
begin
  -- The same work whatever is wrong: one hash, and one row read, the token at or after this place in
  -- the index. (Past the last one none is read, which says nothing about any cluster.)
  select t.* into v_token from public.cluster_tokens t
    where (t.verifier, t.cluster_id) >= (v_verifier, v_cluster_id)
    order by t.verifier, t.cluster_id limit 1;
  if (v_token.verifier = v_verifier and v_token.cluster_id = p_cluster_id
      and v_token.revoked_at is null
      and (v_token.expires_at is null or v_token.expires_at > now())) is not true then
    raise exception using errcode = 'PT401', message = 'cluster id or token are wrong',
      hint = 'check TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN; the token may be expired or revoked';
  end if;
end $$;
comment on function tendril_private.authenticate(uuid, text) is
  'Raise PT401 unless the hash is that of a live token of the cluster. Neither the answer nor the work '
  'tells which of the two was wrong.';

create function tendril_private.owned_cluster(p_cluster_id uuid) returns public.clusters
language plpgsql volatile set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_cluster public.clusters;
begin
  select c.* into v_cluster from public.clusters c
    where c.id = p_cluster_id and c.user_id = v_user for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return v_cluster;
end $$;
comment on function tendril_private.owned_cluster(uuid) is
  'The caller''s cluster, locked. Raises PT404 if there is none, or it is another''s.';

create function tendril_private.issue_token(p_cluster_id uuid, p_expires_at timestamptz)
returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  -- 244 random bits from the server's strong source, which is what gen_random_uuid() draws on.
  v_token text := 'tendril_' || encode(
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
  v_hash text := tendril_private.hash_of(v_token);
  v_id uuid;
begin
  if p_expires_at <= now() then
    raise exception using errcode = 'PT422', message = 'a token cannot expire in the past';
  end if;
  insert into public.cluster_tokens (cluster_id, verifier, fingerprint, expires_at)
    values (p_cluster_id, tendril_private.verifier_of(v_hash), left(v_hash, 12), p_expires_at)
    returning id into v_id;
  return jsonb_build_object('cluster_id', p_cluster_id, 'token', v_token, 'token_id', v_id,
    'fingerprint', left(v_hash, 12), 'expires_at', p_expires_at);
end $$;
comment on function tendril_private.issue_token(uuid, timestamptz) is
  'Make a token. It is in this answer and nowhere else.';

create function public.register_cluster(p_name text, p_max_concurrency int default 1) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_name text := trim(coalesce(p_name, ''));
  v_cluster uuid;
begin
  if length(v_name) not between 1 and 100 then
    raise exception using errcode = 'PT422', message = 'a cluster name has 1 to 100 characters';
  end if;
  if coalesce(p_max_concurrency, 1) not between 0 and 1000 then
    raise exception using errcode = 'PT422', message = 'max_concurrency is between 0 and 1000';
  end if;
  insert into public.clusters (user_id, name, max_concurrency)
    values (v_user, v_name, coalesce(p_max_concurrency, 1))
    returning id into v_cluster;
  perform tendril_private.audit('cluster_registered', v_cluster);
  return tendril_private.issue_token(v_cluster, null);
end $$;
comment on function public.register_cluster(text, int) is
  'For owners: make a cluster and its first token. The token is in this answer and nowhere else. '
  'Answers {cluster_id, token, token_id, fingerprint, expires_at}.';

create function public.rotate_cluster_token(
  p_cluster_id uuid,
  p_expires_at timestamptz default null,
  p_old_expires_at timestamptz default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  c_live_at_most constant int := 2;
  v_answer jsonb;
begin
  perform tendril_private.owned_cluster(p_cluster_id);
  if (select count(*) from public.cluster_tokens t where t.cluster_id = p_cluster_id
      and t.revoked_at is null and (t.expires_at is null or t.expires_at > now()))
      >= c_live_at_most then
    raise exception using errcode = 'PT422', message = 'two tokens are live already',
      hint = 'revoke one (revoke_cluster_token), or wait until one has expired';
  end if;
  if p_old_expires_at is not null then
    update public.cluster_tokens t set expires_at = p_old_expires_at
      where t.cluster_id = p_cluster_id and t.revoked_at is null
        and (t.expires_at is null or t.expires_at > p_old_expires_at);
  end if;
  v_answer := tendril_private.issue_token(p_cluster_id, p_expires_at);
  perform tendril_private.audit('token_rotated', p_cluster_id,
    p_detail => jsonb_strip_nulls(jsonb_build_object('token_id', v_answer -> 'token_id',
      'fingerprint', v_answer -> 'fingerprint', 'expires_at', p_expires_at,
      'old_expires_at', p_old_expires_at)));
  return v_answer;
end $$;
comment on function public.rotate_cluster_token(uuid, timestamptz, timestamptz) is
  'For owners: make another token for the cluster. The old one stays live beside it until it expires '
  '(at p_old_expires_at, if given) or is revoked; more than two are never live. Answers {cluster_id, '
  'token, token_id, fingerprint, expires_at}; the token is in this answer and nowhere else.';

create function public.revoke_cluster_token(p_token_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_token public.cluster_tokens;
begin
  select t.* into v_token
    from public.cluster_tokens t join public.clusters c on c.id = t.cluster_id
    where t.id = p_token_id and c.user_id = v_user for no key update of t;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such token';
  end if;
  if v_token.revoked_at is null then
    update public.cluster_tokens t set revoked_at = clock_timestamp() where t.id = p_token_id;
    perform tendril_private.audit('token_revoked', v_token.cluster_id,
      p_detail => jsonb_build_object('token_id', p_token_id, 'fingerprint', v_token.fingerprint));
  end if;
  return jsonb_build_object('token_id', p_token_id, 'changed', v_token.revoked_at is null);
end $$;
comment on function public.revoke_cluster_token(uuid) is
  'For owners: refuse a token from now on. Answers {token_id, changed}; changed = false: it was '
  'revoked before.';

create function public.set_cluster_options(
  p_cluster_id uuid,
  p_max_concurrency int default null,
  p_drain boolean default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_cluster public.clusters := tendril_private.owned_cluster(p_cluster_id);
  v_max int := coalesce(p_max_concurrency, v_cluster.max_concurrency);
  v_drain boolean := coalesce(p_drain, v_cluster.drain);
  v_changed boolean := (v_max, v_drain) <> (v_cluster.max_concurrency, v_cluster.drain);
begin
  if v_max not between 0 and 1000 then
    raise exception using errcode = 'PT422', message = 'max_concurrency is between 0 and 1000';
  end if;
  if v_changed then
    update public.clusters c set max_concurrency = v_max, drain = v_drain where c.id = p_cluster_id;
    perform tendril_private.audit('cluster_options_set', p_cluster_id,
      p_detail => jsonb_build_object('max_concurrency', v_max, 'drain', v_drain));
  end if;
  return jsonb_build_object('max_concurrency', v_max, 'drain', v_drain, 'changed', v_changed);
end $$;
comment on function public.set_cluster_options(uuid, int, boolean) is
  'For owners: how much the cluster runs at once, and whether it takes on anything at all; null '
  'leaves an option as it is. Answers {max_concurrency, drain, changed}.';

revoke all on function tendril_private.hash_of(text),
  tendril_private.verifier_of(text),
  tendril_private.authenticate(uuid, text),
  tendril_private.owned_cluster(uuid),
  tendril_private.issue_token(uuid, timestamptz),
  public.register_cluster(text, int),
  public.rotate_cluster_token(uuid, timestamptz, timestamptz),
  public.revoke_cluster_token(uuid),
  public.set_cluster_options(uuid, int, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.register_cluster(text, int),
  public.rotate_cluster_token(uuid, timestamptz, timestamptz),
  public.revoke_cluster_token(uuid),
  public.set_cluster_options(uuid, int, boolean)
  to authenticated;
