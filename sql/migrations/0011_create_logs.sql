-- Logs: numbered chunks of each attempt's output, an exact prefix of it at any time.

create table public.provision_logs (
  id bigint generated always as identity primary key,
  provision_id uuid not null references public.provisions on delete cascade,
  attempt int not null check (attempt > 0),
  seq int not null check (seq >= 0),
  byte_offset bigint not null check (byte_offset >= 0),
  stream_type text not null check (stream_type in ('STDOUT', 'STDERR', 'SYSTEM')),
  log_chunk text not null check (octet_length(log_chunk) <= 65536),
  created_at timestamptz not null default clock_timestamp(),
  unique (provision_id, attempt, seq)
);
comment on table public.provision_logs is
  'Append-only; no holes: seq counts from 0 and byte_offset adds up. Show in order of (attempt, seq).';
comment on column public.provision_logs.id is 'Needed by Realtime; says nothing about order.';
comment on column public.provision_logs.provision_id is 'Whose output.';
comment on column public.provision_logs.attempt is 'Of which attempt.';
comment on column public.provision_logs.seq is
  'Position in the attempt, over all streams; order of arrival is order of display.';
comment on column public.provision_logs.byte_offset is
  'Bytes (UTF-8) of log_chunk in all earlier chunks of the attempt.';
comment on column public.provision_logs.stream_type is
  'STDOUT, STDERR, or SYSTEM for what the agent itself says.';
comment on column public.provision_logs.log_chunk is 'Text, at most 64 KiB; not cut at lines.';
comment on column public.provision_logs.created_at is 'When it was stored.';

revoke all on public.provision_logs from public, anon, authenticated, service_role;
revoke all on sequence public.provision_logs_id_seq from public, anon, authenticated, service_role;
alter table public.provision_logs enable row level security;
grant select on public.provision_logs to authenticated, service_role;
create policy owner_reads on public.provision_logs for select to authenticated
  using (exists (select from public.provisions p where p.id = provision_id));
comment on policy owner_reads on public.provision_logs is
  'Owners see the logs of the provisions that they see.';


create function tendril_private.lock_log(p_provision_id uuid, p_attempt int) returns void
language plpgsql volatile set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('tendril log ' || p_provision_id::text, p_attempt));
end $$;
comment on function tendril_private.lock_log(uuid, int) is
  'One writer at a time per attempt, so that the next number and offset are read once they are final.';

create function tendril_private.log_end(
  p_provision_id uuid, p_attempt int, out next_seq int, out next_offset bigint
)
language plpgsql stable set search_path = '' as $$
begin
  select l.seq + 1, l.byte_offset + octet_length(l.log_chunk) into next_seq, next_offset
    from public.provision_logs l
    where l.provision_id = p_provision_id and l.attempt = p_attempt
    order by l.seq desc limit 1;
  next_seq := coalesce(next_seq, 0);
  next_offset := coalesce(next_offset, 0);
end $$;
comment on function tendril_private.log_end(uuid, int) is
  'Number and offset that the next chunk of the attempt must have.';

create function tendril_private.check_chunks(p_first_seq int, p_chunks jsonb) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if coalesce(p_first_seq, -1) < 0 then
    raise exception using errcode = 'PT422', message = 'p_first_seq counts from 0';
  end if;
  if coalesce(jsonb_typeof(p_chunks), '') <> 'array' or jsonb_array_length(p_chunks) > 1000 then
    raise exception using errcode = 'PT422', message = 'p_chunks is a list of at most 1000 chunks';
  end if;
  perform from jsonb_array_elements(p_chunks) as x (chunk)
    where jsonb_typeof(x.chunk) <> 'object'
      or coalesce(x.chunk ->> 's', '') not in ('STDOUT', 'STDERR', 'SYSTEM')
      or coalesce(jsonb_typeof(x.chunk -> 'o'), '') <> 'number'
      or coalesce(jsonb_typeof(x.chunk -> 't'), '') <> 'string'
      or octet_length(x.chunk ->> 't') > 65536;
  if found then
    raise exception using errcode = 'PT422',
      message = 'a chunk is {s: stream, o: byte offset, t: text of at most 64 KiB}',
      hint = 's is STDOUT, STDERR or SYSTEM';
  end if;
end $$;
comment on function tendril_private.check_chunks(int, jsonb) is
  'Raise PT422 unless the batch has the shape that is read.';

create function public.insert_provision_logs(
  p_cluster_id uuid,
  p_token_hash text,
  p_provision_id uuid,
  p_attempt int,
  p_agent_id uuid,
  p_first_seq int,
  p_chunks jsonb
) returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  v_provision public.provisions;
  v_next_seq int;
  v_offset bigint;
  v_last_seq bigint;
  v_misplaced bigint;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  perform tendril_private.check_chunks(p_first_seq, p_chunks);
  select p.* into v_provision from public.provisions p
    where p.id = p_provision_id and p.cluster_id = p_cluster_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  if v_provision.logs_pruned_at is not null then
    raise exception using errcode = 'PT409', message = 'the logs of the provision were pruned';
  end if;
  -- Authorship, not a live lease: whoever wrote the attempt delivers, also after its end.
  if v_provision.attempt = 0 or p_attempt is distinct from v_provision.attempt
      or v_provision.claimed_by is distinct from p_agent_id then
    raise exception using errcode = 'PT409', message = 'the attempt is not the caller''s, or not the '
      'newest';
  end if;

  perform tendril_private.lock_log(p_provision_id, p_attempt);
  select e.next_seq, e.next_offset into v_next_seq, v_offset
    from tendril_private.log_end(p_provision_id, p_attempt) e;
  if p_first_seq <= v_next_seq then
    with fresh as (
      select p_first_seq + x.position - 1 as seq, x.chunk,
        v_offset + coalesce(sum(octet_length(x.chunk ->> 't')) over (order by x.position
          rows between unbounded preceding and 1 preceding), 0) as byte_offset
      from jsonb_array_elements(p_chunks) with ordinality as x (chunk, position)
      where p_first_seq + x.position - 1 >= v_next_seq
    ), stored as (
      insert into public.provision_logs
        (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
      select p_provision_id, p_attempt, f.seq, f.byte_offset, f.chunk ->> 's', f.chunk ->> 't'
      from fresh f order by f.seq
    )
    select max(f.seq), min(f.seq) filter (where (f.chunk ->> 'o')::numeric <> f.byte_offset)
      into v_last_seq, v_misplaced from fresh f;
    if v_misplaced is not null then  -- raising takes the insert back
      raise exception using errcode = 'PT422', message = 'a chunk''s byte offset does not add up',
        detail = format('seq=%s', v_misplaced),
        hint = 'o is the number of UTF-8 bytes in all earlier chunks of the attempt';
    end if;
  end if;
  return jsonb_build_object(
    'next_seq', coalesce(v_last_seq + 1, v_next_seq),
    'accepted', p_first_seq <= v_next_seq,
    'cancel', tendril_private.cancel_level(
      v_provision.cancel_requested_at, v_provision.force_cancel_requested_at));
end $$;
comment on function public.insert_provision_logs(uuid, text, uuid, int, uuid, int, jsonb) is
  'For agents: store consecutive chunks of an attempt from p_first_seq on; those already stored are '
  'skipped. p_chunks: [{s: stream, o: byte offset, t: text}]. Answers {next_seq, accepted, cancel}; '
  'accepted = false: a gap, go back to next_seq. PT409: the attempt is superseded or not the '
  'caller''s.';

create function public.insert_provision_log(
  p_cluster_id uuid,
  p_token_hash text,
  p_provision_id uuid,
  p_log_chunk text,
  p_stream_type text
) returns void
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  v_attempt int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_log_chunk is null or octet_length(p_log_chunk) > 65536
      or coalesce(upper(p_stream_type), '') not in ('STDOUT', 'STDERR', 'SYSTEM') then
    raise exception using errcode = 'PT422',
      message = 'a chunk is text of at most 64 KiB with a stream type',
      hint = 'p_stream_type is STDOUT, STDERR or SYSTEM';
  end if;
  select case when p.claimed_by is null and p.logs_pruned_at is null then p.attempt else 0 end
    into v_attempt
    from public.provisions p where p.id = p_provision_id and p.cluster_id = p_cluster_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  if v_attempt = 0 then
    raise exception using errcode = 'PT409', message = 'the attempt is not the caller''s',
      hint = 'an agent with an id calls insert_provision_logs';
  end if;
  perform tendril_private.lock_log(p_provision_id, v_attempt);
  insert into public.provision_logs
      (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
    select p_provision_id, v_attempt, e.next_seq, e.next_offset, upper(p_stream_type), p_log_chunk
    from tendril_private.log_end(p_provision_id, v_attempt) e;
end $$;
comment on function public.insert_provision_log(uuid, text, uuid, text, text) is
  'For clients that claim without an agent id: append one chunk; its number is given here.';

create function public.prune_logs(p_older_than interval, p_at_most int default 1000) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_ids uuid[];
  v_chunks bigint;
begin
  if p_older_than is null or p_older_than < '0' then
    raise exception using errcode = 'PT422', message = 'p_older_than is an interval, not negative';
  end if;
  with ended as (
    select p.id from public.provisions p
    where p.completed_at < clock_timestamp() - p_older_than and p.logs_pruned_at is null
    limit p_at_most for no key update of p skip locked
  ), marked as (
    update public.provisions p set logs_pruned_at = clock_timestamp()
    from ended where p.id = ended.id returning p.id
  )
  select coalesce(array_agg(m.id), '{}') into v_ids from marked m;
  delete from tendril_private.lost_leases l where l.provision_id = any (v_ids);
  delete from public.provision_logs l where l.provision_id = any (v_ids);
  get diagnostics v_chunks = row_count;
  if v_ids <> '{}' then
    perform tendril_private.audit('logs_pruned', p_detail => jsonb_build_object(
      'provisions', cardinality(v_ids), 'chunks', v_chunks, 'older_than', p_older_than));
  end if;
  return jsonb_build_object('provisions', cardinality(v_ids), 'chunks', v_chunks);
end $$;
comment on function public.prune_logs(interval, int) is
  'For a scheduler: delete the logs of provisions that ended so long ago, at most of so many; whoever '
  'wrote them can deliver no more. Answers {provisions, chunks}: repeat until provisions is 0.';

revoke all on function tendril_private.lock_log(uuid, int),
  tendril_private.log_end(uuid, int),
  tendril_private.check_chunks(int, jsonb),
  public.insert_provision_logs(uuid, text, uuid, int, uuid, int, jsonb),
  public.insert_provision_log(uuid, text, uuid, text, text),
  public.prune_logs(interval, int)
  from public, anon, authenticated, service_role;
grant execute on function
  public.insert_provision_logs(uuid, text, uuid, int, uuid, int, jsonb),
  public.insert_provision_log(uuid, text, uuid, text, text)
  to anon;
grant execute on function public.prune_logs(interval, int) to service_role;
