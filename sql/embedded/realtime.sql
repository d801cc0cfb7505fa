-- As much of Supabase's schema "realtime" as broadcasts from the database need. For servers without
-- Supabase's Realtime, before the first migration; safe to repeat. Names, rights and behaviour are
-- Supabase's, but for what is marked "Ours".

create schema if not exists realtime;
grant usage on schema realtime to anon, authenticated, service_role;

-- Ours: not partitioned by day, so nobody has to make tomorrow's partition, and pruned by itself.
create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default timezone('utc', now()),
  inserted_at timestamp not null default timezone('utc', now()),
  id uuid not null default gen_random_uuid(),
  primary key (id, inserted_at)
);
create index if not exists messages_inserted_at_topic_index
  on realtime.messages (inserted_at, topic);
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

-- Ours: Supabase drops partitions after three days. Replay reaches 25 messages back, and wakeups have
-- no content: an hour is plenty. Each insert takes away more than it adds, so a backlog ends and no
-- task of its own is needed. Definer: who may send may not delete.
create or replace function realtime.prune_messages() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  delete from realtime.messages
  where ctid = any (array(
    select ctid from realtime.messages
    where inserted_at < timezone('utc', now()) - interval '1 hour'
    order by inserted_at
    limit 10
    for update skip locked));
  return null;
end $$;
create or replace trigger prune_messages after insert on realtime.messages
  for each statement execute function realtime.prune_messages();

create or replace function realtime.topic() returns text language sql stable
return nullif(current_setting('realtime.topic', true), '');

-- Its errors become warnings: whoever sends must not fail for want of listeners.
create or replace function realtime.send(
  payload jsonb, event text, topic text, private boolean default true
) returns void language plpgsql as $$
declare
  v_id uuid := gen_random_uuid();
begin
  begin
    if not payload ? 'id' then
      payload := jsonb_set(payload, '{id}', to_jsonb(v_id));
    end if;
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
      values (v_id, payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end $$;

do $$
begin
  if not exists (
    select from pg_publication where pubname = 'supabase_realtime_messages_publication'
  ) then
    create publication supabase_realtime_messages_publication
      for table realtime.messages with (publish = 'insert');
  end if;
end $$;
