-- What the control plane's functions share and no API role may touch: settings, the signing
-- secret, token signing, and who the caller is.
--
-- Every migration: plain SQL for Postgres 15 and later, no extension, no BEGIN or COMMIT (whoever
-- applies it gives it a transaction), and each object is revoked from everybody in the file that
-- makes it, since Supabase grants all that is new in "public" to anon and authenticated.
--
-- Functions fix their search_path. One-liners have a RETURN body instead: it is bound when the
-- function is made, so no search_path can mislead it, and the planner can inline it. Functions that
-- agents call all the time also forbid plans that read whole tables: sessions are pooled, and a plan
-- that was made and kept while a table was small would still be in use when it is large. There, a query
-- of a table with one row says "where one_row": a plan without an index counts as so costly that
-- Postgres would compile it first.

create schema if not exists tendril_private;
comment on schema tendril_private is
  'Helpers and secrets of the control plane; not exposed by the API.';
revoke all on schema tendril_private from public, anon, authenticated, service_role;

create table tendril_private.settings (
  one_row boolean primary key default true check (one_row),
  lease_ttl interval not null default '90 s' check (lease_ttl > '0'),
  reap_grace interval not null default '15 s' check (reap_grace >= '0'),
  lost_after interval not null default '15 min' check (lost_after >= '0'),
  retry_base interval not null default '5 s' check (retry_base >= '0'),
  retry_cap interval not null default '10 min' check (retry_cap >= '0'),
  offline_after interval not null default '90 s' check (offline_after > '0'),
  beat_coalescing interval not null default '20 s' check (beat_coalescing >= '0'),
  sweep_every interval not null default '5 s' check (sweep_every >= '0'),
  outage_after interval not null default '45 s' check (outage_after > '0'),
  log_retention interval not null default '30 days' check (log_retention > '0')
);
comment on table tendril_private.settings is
  'The one place of every duration; one row. Change it with UPDATE, it holds from the next call on.';
comment on column tendril_private.settings.one_row is 'Keeps the table at one row.';
comment on column tendril_private.settings.lease_ttl is
  'How long a lease lives after a claim or a heartbeat. Agents beat every 30 s.';
comment on column tendril_private.settings.reap_grace is
  'How long an expired lease of phase PREPARE or PLAN is left alone before it is requeued.';
comment on column tendril_private.settings.lost_after is
  'How long an expired lease of phase APPLY is left alone before its provision is FAILED.';
comment on column tendril_private.settings.retry_base is
  'Wait before attempt 2, give or take a quarter; doubles with each further attempt.';
comment on column tendril_private.settings.retry_cap is 'Longest wait between two attempts.';
comment on column tendril_private.settings.offline_after is
  'Silence after which a cluster is OFFLINE.';
comment on column tendril_private.settings.beat_coalescing is
  'A published cluster row is rewritten by heartbeats at most this often.';
comment on column tendril_private.settings.sweep_every is
  'Heartbeats look for silent agents of other clusters at most this often, all together.';
comment on column tendril_private.settings.outage_after is
  'When no agent at all has been heard for so long, it is the control plane that was away: nobody is '
  'reaped for one lease_ttl. Longer than the 30 s between two beats of a lone agent, and so short '
  'that an outage which goes unnoticed kills no lease: 30 s since the last beat, this, and 30 s until '
  'the next beat do not exceed lease_ttl + reap_grace.';
comment on column tendril_private.settings.log_retention is
  'How long pg_cron, where it exists, keeps the logs of ended provisions.';
insert into tendril_private.settings default values;

create table tendril_private.sweeps (
  one_row boolean primary key default true check (one_row),
  swept_at timestamptz not null default '-infinity',
  paused_until timestamptz not null default '-infinity'
) with (fillfactor = 50);
comment on table tendril_private.sweeps is
  'When agents were last heard and all clusters swept; one row, apart from the settings because it '
  'is hot.';
comment on column tendril_private.sweeps.one_row is 'Keeps the table at one row.';
comment on column tendril_private.sweeps.swept_at is
  'Last sign of life of any agent, to within settings.sweep_every; each is also a sweep.';
comment on column tendril_private.sweeps.paused_until is
  'Nobody is reaped before then: the control plane itself was away.';
insert into tendril_private.sweeps default values;

create table tendril_private.jwt_secrets (
  one_row boolean primary key default true check (one_row),
  secret text not null check (secret <> '')
);
comment on table tendril_private.jwt_secrets is
  'The project''s shared JWT secret; empty where none is configured.';
comment on column tendril_private.jwt_secrets.one_row is 'Keeps the table at one row.';
comment on column tendril_private.jwt_secrets.secret is
  'HS256 key as text, exactly as the project shows it.';

revoke all on tendril_private.settings, tendril_private.sweeps, tendril_private.jwt_secrets
  from public, anon, authenticated, service_role;


create function tendril_private.set_jwt_secret(p_secret text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  delete from tendril_private.jwt_secrets;
  if p_secret <> '' then
    insert into tendril_private.jwt_secrets (secret) values (p_secret);
  end if;
  perform tendril_private.audit('jwt_secret_set');
end $$;
comment on function tendril_private.set_jwt_secret(text) is
  'Store the project''s JWT secret, with which agents'' Realtime tokens are signed; null or empty '
  'removes it, and agents then work by polling.';

create function tendril_private.hmac_sha256(p_message bytea, p_key bytea) returns bytea
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  c_block_bytes constant int := 64;
  v_key bytea := case when length(p_key) > c_block_bytes then sha256(p_key) else p_key end;
  v_inner bytea;
  v_outer bytea;
begin
  v_key := v_key || decode(repeat('00', c_block_bytes - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0 .. c_block_bytes - 1 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);  -- 0x36, RFC 2104
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);  -- 0x5c
  end loop;
  return sha256(v_outer || sha256(v_inner || p_message));
end $$;
comment on function tendril_private.hmac_sha256(bytea, bytea) is
  'HMAC-SHA256 (RFC 2104) without pgcrypto, which not every server has.';

create function tendril_private.base64url(p_bytes bytea) returns text
language sql immutable parallel safe
return translate(encode(p_bytes, 'base64'), E'+/=\n', '-_');
comment on function tendril_private.base64url(bytea) is
  'Base64 of RFC 4648 section 5, without padding or line breaks.';

create function tendril_private.sign_jwt(p_claims jsonb, p_secret text) returns text
language sql stable strict parallel safe set search_path = '' as $$
  select signed.part || '.' || tendril_private.base64url(
    tendril_private.hmac_sha256(convert_to(signed.part, 'UTF8'), convert_to(p_secret, 'UTF8')))
  from (
    select tendril_private.base64url(convert_to('{"alg":"HS256","typ":"JWT"}', 'UTF8'))
      || '.' || tendril_private.base64url(convert_to(p_claims::text, 'UTF8')) as part
  ) signed
$$;
comment on function tendril_private.sign_jwt(jsonb, text) is 'A compact JWT, HS256.';

create function tendril_private.is_uuid(p_text text) returns boolean
language sql immutable parallel safe
return coalesce(p_text ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$', false);
comment on function tendril_private.is_uuid(text) is
  'Whether a cast to uuid will succeed (Postgres 15 has no pg_input_is_valid).';

create function tendril_private.caller() returns uuid
language plpgsql stable set search_path = '' as $$
declare
  v_subject text := nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
begin
  if not tendril_private.is_uuid(v_subject) then
    raise exception using errcode = 'PT401', message = 'not signed in',
      hint = 'send the access token of a signed-in user';
  end if;
  return v_subject::uuid;
end $$;
comment on function tendril_private.caller() is
  'The signed-in user: the subject of the request''s JWT. Raises PT401 where there is none.';

revoke all on all functions in schema tendril_private
  from public, anon, authenticated, service_role;
grant usage on schema tendril_private to service_role;
grant execute on function tendril_private.set_jwt_secret(text) to service_role;
