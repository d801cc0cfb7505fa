-- Clusters, the tokens of their agents, and how an agent proves which cluster it is of.

create table public.clusters (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  name text not null check (length(name) between 1 and 100),
  status text not null default 'PENDING' check (status in ('PENDING', 'ONLINE', 'OFFLINE')),
  last_heartbeat timestamptz,
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  max_concurrency int not null default 1 check (max_concurrency between 0 and 1000),
  created_at timestamptz not null default now()
) with (fillfactor = 70);
comment on table public.clusters is
  'Where agents run. Owners read their own; written by register_cluster and by heartbeats.';
comment on column public.clusters.id is 'Known to the agent as TENDRIL_CLUSTER_ID.';
comment on column public.clusters.user_id is
  'The owner: the subject of the JWT that registered it. No foreign key: the embedded plane has no '
  'auth.users.';
comment on column public.clusters.name is 'For people; need not be unique.';
comment on column public.clusters.status is
  'PENDING until the first heartbeat, then ONLINE, OFFLINE after a silence. Readers derive OFFLINE '
  'from the age of last_heartbeat as well.';
comment on column public.clusters.last_heartbeat is
  'Last heartbeat of any agent, to within settings.beat_coalescing.';
comment on column public.clusters.metadata is 'Free for the owner''s tools.';
comment on column public.clusters.max_concurrency is
  'How many provisions may run here at once, over all agents; 0 pauses the cluster.';
comment on column public.clusters.created_at is 'When it was registered.';

create index clusters_owner on public.clusters ((user_id::text));

create table public.cluster_tokens (
  id uuid primary key default gen_random_uuid(),
  cluster_id uuid not null references public.clusters on delete cascade,
  verifier bytea not null check (length(verifier) = 32),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  last_used_at timestamptz
);
comment on table public.cluster_tokens is
  'What agents'' tokens are checked against. Two may be live at once, for rotation.';
comment on column public.cluster_tokens.id is 'Names the token without revealing it.';
comment on column public.cluster_tokens.cluster_id is 'The cluster it speaks for.';
comment on column public.cluster_tokens.verifier is
  'sha256 of the text that agents send, which is hex(sha256(token)): who steals this table can '
  'impersonate nobody.';
comment on column public.cluster_tokens.created_at is 'When it was made.';
comment on column public.cluster_tokens.expires_at is 'Refused from then on; null: never.';
comment on column public.cluster_tokens.revoked_at is 'Refused from then on; null: not revoked.';
comment on column public.cluster_tokens.last_used_at is
  'Last heartbeat that carried it, to within a minute.';

create index cluster_tokens_cluster on public.cluster_tokens (cluster_id);

revoke all on public.clusters, public.cluster_tokens
  from public, anon, authenticated, service_role;
alter table public.clusters enable row level security;
alter table public.cluster_tokens enable row level security;
grant select on public.clusters to authenticated, service_role;
grant select (id, cluster_id, created_at, expires_at, revoked_at, last_used_at)
  on public.cluster_tokens to authenticated, service_role;

-- The claim is compared as text: casting it would let one malformed token break Realtime's poller
-- for every subscriber.
create policy owner_reads on public.clusters for select to authenticated
  using (user_id::text
    = (select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'));
comment on policy owner_reads on public.clusters is 'Owners see their own clusters.';
create policy owner_reads on public.cluster_tokens for select to authenticated
  using (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_reads on public.cluster_tokens is
  'Owners see the tokens of the clusters that they see.';


create function tendril_private.verifier_of(p_token_hash text) returns bytea
language sql stable parallel safe
return sha256(convert_to(lower(p_token_hash), 'UTF8'));
comment on function tendril_private.verifier_of(text) is
  'cluster_tokens.verifier for the hash that an agent sends.';

create function tendril_private.authenticate(p_cluster_id uuid, p_token_hash text) returns void
language plpgsql stable set search_path = '' as $$
begin
  perform from public.cluster_tokens t
  where t.cluster_id = p_cluster_id
    and t.verifier = tendril_private.verifier_of(p_token_hash)
    and t.revoked_at is null
    and (t.expires_at is null or t.expires_at > now());
  if not found then
    raise exception using errcode = 'PT401', message = 'cluster id or token are wrong',
      hint = 'check TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN; the token may be expired or revoked';
  end if;
end $$;
comment on function tendril_private.authenticate(uuid, text) is
  'Raise PT401 unless the hash is that of a live token of the cluster. Never says which of the two '
  'was wrong.';

create function public.register_cluster(p_name text, p_max_concurrency int default 1) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_name text := trim(coalesce(p_name, ''));
  v_token text;
  v_cluster uuid;
begin
  if length(v_name) not between 1 and 100 then
    raise exception using errcode = 'PT422', message = 'a cluster name has 1 to 100 characters';
  end if;
  if coalesce(p_max_concurrency, 1) not between 0 and 1000 then
    raise exception using errcode = 'PT422', message = 'max_concurrency is between 0 and 1000';
  end if;
  -- 244 random bits from the server's strong source, which is what gen_random_uuid() draws on.
  v_token := 'tendril_' || encode(
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
  insert into public.clusters (user_id, name, max_concurrency)
    values (v_user, v_name, coalesce(p_max_concurrency, 1))
    returning id into v_cluster;
  insert into public.cluster_tokens (cluster_id, verifier)
    values (v_cluster, tendril_private.verifier_of(
      encode(sha256(convert_to(v_token, 'UTF8')), 'hex')));
  return jsonb_build_object('cluster_id', v_cluster, 'token', v_token);
end $$;
comment on function public.register_cluster(text, int) is
  'For owners: make a cluster and its first token. The token is in this answer and nowhere else. '
  'Answers {cluster_id, token}.';

revoke all on function tendril_private.verifier_of(text),
  tendril_private.authenticate(uuid, text),
  public.register_cluster(text, int)
  from public, anon, authenticated, service_role;
grant execute on function public.register_cluster(text, int) to authenticated;
