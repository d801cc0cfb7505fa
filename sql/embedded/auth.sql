-- Users and sessions of the embedded stand-in for Supabase Auth. On Supabase the schema "auth" is the
-- project's own, so no migration speaks of it. No role of the API may use it. Safe to repeat.

create schema if not exists auth;
revoke all on schema auth from public;

create table if not exists auth.users (
  id uuid primary key default gen_random_uuid(),
  email text not null unique check (email = lower(email) and length(email) between 3 and 254),
  password_hash text not null,
  created_at timestamptz not null default now(),
  last_sign_in_at timestamptz
);

create table if not exists auth.sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users on delete cascade,
  created_at timestamptz not null default now()
);
create index if not exists sessions_user_id on auth.sessions (user_id);

-- Each token of a session, the used ones too: that is how a second use is noticed.
create table if not exists auth.refresh_tokens (
  digest bytea primary key,  -- sha256 of the token, which is stored nowhere
  session_id uuid not null references auth.sessions on delete cascade,
  used_at timestamptz
);
create index if not exists refresh_tokens_session_id on auth.refresh_tokens (session_id);

-- Codes that sign somebody in once, in a link that whoever starts the plane prints.
create table if not exists auth.one_time_codes (
  digest bytea primary key,  -- sha256 of the code, which is stored nowhere
  user_id uuid not null references auth.users on delete cascade
);

-- The user as Auth's clients want it.
create or replace function auth.described(p_user auth.users) returns jsonb language sql stable
as $$
  select jsonb_build_object(
    'id', (p_user).id, 'aud', 'authenticated', 'role', 'authenticated',
    'email', (p_user).email, 'phone', '',
    'email_confirmed_at', (p_user).created_at, 'confirmed_at', (p_user).created_at,
    'last_sign_in_at', (p_user).last_sign_in_at,
    'app_metadata', jsonb_build_object('provider', 'email', 'providers', jsonb_build_array('email')),
    'user_metadata', jsonb_build_object('email', (p_user).email, 'email_verified', true),
    'identities', jsonb_build_array(jsonb_build_object(
      'id', (p_user).id, 'identity_id', (p_user).id, 'user_id', (p_user).id, 'provider', 'email',
      'identity_data', jsonb_build_object('email', (p_user).email, 'sub', (p_user).id),
      'created_at', (p_user).created_at, 'last_sign_in_at', (p_user).last_sign_in_at)),
    'created_at', (p_user).created_at, 'updated_at', (p_user).created_at, 'is_anonymous', false)
$$;

-- Null: there is such a user already, who stays as it is.
create or replace function auth.add_user(p_email text, p_password_hash text, p_id uuid default null)
returns jsonb language sql
as $$
  with added as (
    insert into auth.users (id, email, password_hash)
    values (coalesce(p_id, gen_random_uuid()), lower(p_email), p_password_hash)
    on conflict do nothing returning users
  )
  select auth.described(a.users) from added a
$$;

create or replace function auth.find_user(p_email text) returns jsonb language sql stable
as $$
  select jsonb_build_object('id', u.id, 'password_hash', u.password_hash)
  from auth.users u where u.email = lower(p_email)
$$;

-- Null: no such user, or the session (if one is named) has ended.
create or replace function auth.user_of(p_user_id uuid, p_session_id uuid) returns jsonb
language sql stable
as $$
  select auth.described(u) from auth.users u
  where u.id = p_user_id and (p_session_id is null or exists (
    select from auth.sessions s where s.id = p_session_id and s.user_id = u.id))
$$;

create or replace function auth.open_session(p_user_id uuid, p_digest bytea) returns jsonb
language sql
as $$
  with signed_in as (
    update auth.users u set last_sign_in_at = clock_timestamp()
    where u.id = p_user_id returning u as users
  ), opened as (
    insert into auth.sessions (user_id) select p_user_id returning id
  ), issued as (
    insert into auth.refresh_tokens (digest, session_id) select p_digest, o.id from opened o
  )
  select jsonb_build_object('session_id', o.id, 'user', auth.described(s.users))
  from opened o cross join signed_in s
$$;

-- Exchange a refresh token for a fresh one. Whoever shows one a second time may have stolen it, or been
-- robbed of it: the session ends for both.
create or replace function auth.renew_session(p_digest bytea, p_fresh bytea) returns jsonb
language plpgsql
as $$
declare
  v_token auth.refresh_tokens;
begin
  select t.* into v_token from auth.refresh_tokens t where t.digest = p_digest for update;
  if not found then
    return jsonb_build_object('refused', 'refresh_token_not_found');
  end if;
  if v_token.used_at is not null then
    delete from auth.sessions s where s.id = v_token.session_id;
    return jsonb_build_object('refused', 'refresh_token_already_used');
  end if;
  update auth.refresh_tokens t set used_at = clock_timestamp() where t.digest = p_digest;
  insert into auth.refresh_tokens (digest, session_id) values (p_fresh, v_token.session_id);
  return (select jsonb_build_object('session_id', s.id, 'user', auth.described(u))
    from auth.sessions s join auth.users u on u.id = s.user_id where s.id = v_token.session_id);
end $$;

create or replace function auth.close_sessions(p_user_id uuid, p_session_id uuid, p_scope text)
returns void language sql
as $$
  delete from auth.sessions s where s.user_id = p_user_id and case p_scope
    when 'local' then s.id = p_session_id
    when 'others' then s.id <> p_session_id
    else true end
$$;

-- A fresh code, in place of all that were not used.
create or replace function auth.add_code(p_email text, p_digest bytea) returns void language sql
as $$
  delete from auth.one_time_codes;
  insert into auth.one_time_codes (digest, user_id)
    select p_digest, u.id from auth.users u where u.email = lower(p_email)
$$;

-- Whom a code signs in; null: there is no such code, or not any more.
create or replace function auth.use_code(p_digest bytea) returns uuid language sql
as $$
  delete from auth.one_time_codes where digest = p_digest returning user_id
$$;
