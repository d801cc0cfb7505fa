-- The same claim for less. What a claim costs is CPU: some of it went into walking past what was claimed
-- before, some into a rule that Postgres read from the catalog anew for every claim.

-- A claim begins at the head of its cluster's queue, and walks over the index entries of what was
-- claimed since the indexes were last vacuumed. By default vacuum leaves them alone while less than a
-- fiftieth of the table's pages hold dead rows: beside a million ended provisions those are thousands of
-- claims, and their entries are all at the head.
alter table public.provisions set (vacuum_index_cleanup = on);

-- The rule in WHEN was parsed and planned for each update of a status. As a body it is compiled once
-- per session.
create or replace function tendril_private.refuse_move() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
  if old.status = new.status
      or (old.status = 'QUEUED' and new.status in ('PROCESSING', 'CANCELLED'))
      or (old.status = 'PROCESSING' and new.status in ('QUEUED', 'SUCCESS', 'FAILED', 'CANCELLED'))
      or (old.status = 'FAILED' and new.status = 'PROCESSING' and new.attempt = old.attempt
        and old.error_code is not distinct from 'AGENT_LOST_DURING_APPLY') then
    return new;
  end if;
  raise exception using errcode = 'PT409', message = 'illegal move of a provision''s status',
    detail = format('%s -> %s', old.status, new.status);
end $$;
comment on function tendril_private.refuse_move() is
  'Raise PT409 for a move that is not legal; called by the trigger legal_moves for every move.';
create or replace trigger legal_moves before update of status on public.provisions
  for each row execute function tendril_private.refuse_move();
comment on trigger legal_moves on public.provisions is
  'QUEUED to PROCESSING or CANCELLED; PROCESSING to a terminal status, or back to QUEUED when its '
  'agent was lost before APPLY; terminal statuses never change, but for one: a verdict on an agent '
  'that was silent in APPLY is withdrawn when that attempt is heard again (take_up_lease).';

revoke all on function tendril_private.refuse_move()
  from public, anon, authenticated, service_role;
