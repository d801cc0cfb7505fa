-- How an agent reports the outcome of its attempt.

create function public.update_provision_status(
  p_cluster_id uuid,
  p_token_hash text,
  p_provision_id uuid,
  p_status text,
  p_error_message text default null,
  p_attempt int default null,
  p_agent_id uuid default null,
  p_log_chunks int default null,
  p_error_code text default null,
  p_execution_metadata jsonb default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  c_metadata_bytes constant int := 262144;
  v_metadata jsonb := coalesce(nullif(p_execution_metadata, 'null'), '{}');
  v_attempt int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if coalesce(p_status, '') not in ('PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED') then
    raise exception using errcode = 'PT422', message = 'an agent cannot report this status',
      hint = 'p_status is PROCESSING, SUCCESS, FAILED or CANCELLED';
  end if;
  if jsonb_typeof(v_metadata) <> 'object' or octet_length(v_metadata::text) > c_metadata_bytes then
    raise exception using errcode = 'PT422',
      message = 'execution_metadata is a JSON object of at most 256 KiB';
  end if;

  v_attempt := tendril_private.lock_lease(p_cluster_id, p_provision_id, p_attempt, p_agent_id);
  if v_attempt is null then
    return tendril_private.report_without_lease(p_cluster_id, p_provision_id, p_status,
      p_error_message, p_attempt, p_agent_id, p_log_chunks, p_error_code, v_metadata);
  end if;
  select p.execution_metadata || v_metadata into v_metadata
    from public.provisions p where p.id = p_provision_id;
  if octet_length(v_metadata::text) > 2 * c_metadata_bytes then
    raise exception using errcode = 'PT422',
      message = 'execution_metadata has grown beyond 512 KiB in all';
  end if;

  if p_status = 'PROCESSING' then
    update public.provisions p set execution_metadata = v_metadata
      where p.id = p_provision_id and p.execution_metadata <> v_metadata;
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  -- The outcome is never visible before the last line of the log.
  perform tendril_private.check_log_complete(p_provision_id, v_attempt, p_log_chunks);
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  update public.provisions p set
    status = p_status,
    completed_at = clock_timestamp(),
    error_message = left(p_error_message, 8192),
    error_code = left(p_error_code, 100),
    execution_metadata = v_metadata
  where p.id = p_provision_id;
  perform tendril_private.audit('provision_ended', p_cluster_id, p_provision_id,
    jsonb_strip_nulls(jsonb_build_object('attempt', v_attempt, 'status', p_status,
      'error_code', left(p_error_code, 100))), p_agent_id);
  return jsonb_build_object('status', p_status, 'changed', true);
end $$;
comment on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb) is
  'For agents: report the attempt''s status; a final one ends its lease. Refused with PT422 until '
  'p_log_chunks chunks are stored, with PT409 if the lease is lost. Repeating a report is a success. An '
  'attempt that was given up in APPLY ends with its true outcome, or, where a later provision of its '
  'stack has begun, leaves it in execution_metadata.late_result. Answers {status, changed}.';

create function tendril_private.lock_lease(
  p_cluster_id uuid, p_provision_id uuid, p_attempt int, p_agent_id uuid
) returns int
language plpgsql volatile set search_path = '' as $$
declare
  v_attempt int;
begin
  for i in 1 .. 2 loop
    select l.attempt into v_attempt from public.provision_leases l
      where l.provision_id = p_provision_id and l.cluster_id = p_cluster_id
        and l.agent_id is not distinct from p_agent_id
        and (l.attempt = p_attempt or (p_attempt is null and l.agent_id is null))
      for update;
    exit when found;
    -- Given up in APPLY? Then the report itself is what is heard of the attempt again.
    perform tendril_private.take_up_lease(l.provision_id) from tendril_private.lost_leases l
      where l.provision_id = p_provision_id and l.cluster_id = p_cluster_id
        and l.agent_id is not distinct from p_agent_id
        and (l.attempt = p_attempt or (p_attempt is null and l.agent_id is null));
    exit when not found;
  end loop;
  return v_attempt;
end $$;
comment on function tendril_private.lock_lease(uuid, uuid, int, uuid) is
  'The number of the attempt that the caller holds the lease of, which is then locked; null: none. '
  'Here writes are fenced.';

create function tendril_private.check_log_complete(
  p_provision_id uuid, p_attempt int, p_log_chunks int
) returns void
language plpgsql stable set search_path = '' as $$
declare
  v_stored int;
begin
  select e.next_seq into v_stored from tendril_private.log_end(p_provision_id, p_attempt) e;
  if v_stored < p_log_chunks then
    raise exception using errcode = 'PT422', message = 'the log is not complete yet',
      detail = format('stored=%s expected=%s', v_stored, p_log_chunks),
      hint = 'deliver the missing chunks first';
  end if;
end $$;
comment on function tendril_private.check_log_complete(uuid, int, int) is
  'Raise PT422 until so many chunks of the attempt are stored; null: as many as there are.';

create function tendril_private.report_without_lease(
  p_cluster_id uuid,
  p_provision_id uuid,
  p_status text,
  p_error_message text,
  p_attempt int,
  p_agent_id uuid,
  p_log_chunks int,
  p_error_code text,
  p_metadata jsonb
) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  v_provision public.provisions;
  v_is_author boolean;
begin
  select p.* into v_provision from public.provisions p
    where p.id = p_provision_id and p.cluster_id = p_cluster_id for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  v_is_author := v_provision.attempt > 0
    and v_provision.claimed_by is not distinct from p_agent_id
    and (v_provision.attempt = p_attempt or (p_attempt is null and p_agent_id is null));
  if v_is_author and v_provision.status = 'FAILED' and p_status <> 'PROCESSING'
      and v_provision.error_code = 'AGENT_LOST_DURING_APPLY' then
    perform tendril_private.check_log_complete(p_provision_id, v_provision.attempt, p_log_chunks);
    if not v_provision.execution_metadata ? 'late_result' then
      update public.provisions p set execution_metadata = p.execution_metadata
          || jsonb_build_object('late_result', jsonb_strip_nulls(jsonb_build_object(
            'status', p_status, 'reported_at', clock_timestamp(),
            'error_code', left(p_error_code, 100), 'error_message', left(p_error_message, 8192),
            'execution_metadata', p_metadata)))
        where p.id = p_provision_id;
      perform tendril_private.audit('late_result_kept', p_cluster_id, p_provision_id,
        jsonb_build_object('attempt', v_provision.attempt, 'status', p_status), p_agent_id);
    end if;
    return jsonb_build_object('status', v_provision.status, 'changed', false, 'late', true);
  end if;
  if v_is_author and v_provision.status = p_status and v_provision.completed_at is not null then
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  raise exception using errcode = 'PT409', message = 'the lease is lost',
    hint = 'stop the attempt and report nothing more';
end $$;
comment on function tendril_private.report_without_lease(
  uuid, uuid, text, text, int, uuid, int, text, jsonb) is
  'A report of an attempt that holds no lease: kept aside if it comes too late to undo the verdict on '
  'a silent agent, a success if it repeats the one that ended the attempt, else PT409.';

revoke all on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb),
  tendril_private.lock_lease(uuid, uuid, int, uuid),
  tendril_private.check_log_complete(uuid, int, int),
  tendril_private.report_without_lease(uuid, uuid, text, text, int, uuid, int, text, jsonb)
  from public, anon, authenticated, service_role;
grant execute on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb)
  to anon;
