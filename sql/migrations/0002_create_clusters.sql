-- Clusters, the tokens of their agents, and the agents themselves.

create table public.clusters (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  name text not null check (length(name) between 1 and 100),
  status text not null default 'PENDING' check (status in ('PENDING', 'ONLINE', 'OFFLINE')),
  last_heartbeat timestamptz,
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  max_concurrency int not null default 1 check (max_concurrency between 0 and 1000),
  drain boolean not null default false,
  created_at timestamptz not null default now()
) with (fillfactor = 70);
comment on table public.clusters is
  'Where agents run. Owners read their own; written by the owners'' functions and by heartbeats.';
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
comment on column public.clusters.drain is
  'Nothing more is claimed here; what runs goes on to its end. Heartbeats tell the agents.';
comment on column public.clusters.created_at is 'When it was registered.';

create index clusters_owner on public.clusters ((user_id::text));

create table public.cluster_tokens (
  id uuid primary key default gen_random_uuid(),
  cluster_id uuid not null references public.clusters on delete cascade,
  verifier bytea not null check (length(verifier) = 32),
  fingerprint text check (fingerprint ~ '^[0-9a-f]{12}$'),
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
comment on column public.cluster_tokens.fingerprint is
  'First 12 hex digits of that text: tells which token an audit event speaks of, useless to a thief.';
comment on column public.cluster_tokens.created_at is 'When it was made.';
comment on column public.cluster_tokens.expires_at is 'Refused from then on; null: never.';
comment on column public.cluster_tokens.revoked_at is 'Refused from then on; null: not revoked.';
comment on column public.cluster_tokens.last_used_at is
  'Last heartbeat that carried it, to within a minute.';

create unique index cluster_tokens_verifier on public.cluster_tokens (verifier, cluster_id);
create index cluster_tokens_cluster on public.cluster_tokens (cluster_id);

create table public.agents (
  cluster_id uuid not null references public.clusters on delete cascade,
  id uuid not null,
  hostname text check (length(hostname) <= 255),
  version text check (length(version) <= 100),
  state text not null check (state in ('ONLINE', 'DRAINING', 'OFFLINE')),
  capacity int check (capacity between 0 and 1000),
  first_seen timestamptz not null default now(),
  last_seen timestamptz not null,
  primary key (cluster_id, id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table public.agents is
  'The agents of each cluster, as they describe themselves. Rewritten by every heartbeat, hence '
  'unpublished, with room in its pages and no index on what changes.';
comment on column public.agents.cluster_id is 'Whose token it has.';
comment on column public.agents.id is
  'Made by the agent and kept in its state directory; unique in its cluster only, so that nobody '
  'can take another cluster''s agent''s place.';
comment on column public.agents.hostname is 'Where it runs, as it says.';
comment on column public.agents.version is 'Its release, as it says.';
comment on column public.agents.state is
  'ONLINE or DRAINING as its last heartbeat said, OFFLINE after a silence.';
comment on column public.agents.capacity is 'How many provisions it runs at once, as it says.';
comment on column public.agents.first_seen is 'Its first heartbeat.';
comment on column public.agents.last_seen is 'Its last heartbeat.';

revoke all on public.clusters, public.cluster_tokens, public.agents
  from public, anon, authenticated, service_role;
alter table public.clusters enable row level security;
alter table public.cluster_tokens enable row level security;
alter table public.agents enable row level security;
grant select on public.clusters, public.agents to authenticated, service_role;
grant select (id, cluster_id, fingerprint, created_at, expires_at, revoked_at, last_used_at)
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
create policy owner_reads on public.agents for select to authenticated
  using (exists (select from public.clusters c where c.id = cluster_id));
comment on policy owner_reads on public.agents is
  'Owners see the agents of the clusters that they see.';
