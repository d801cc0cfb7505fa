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
  v_metadata jsonb := coalesce(nullif(p_execution_metadata, 'null'), '{}');
  v_attempt int;
  v_stored int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if coalesce(p_status, '') not in ('PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED') then
    raise exception using errcode = 'PT422', message = 'an agent cannot report this status',
      hint = 'p_status is PROCESSING, SUCCESS, FAILED or CANCELLED';
  end if;
  if jsonb_typeof(v_metadata) <> 'object' or octet_length(v_metadata::text) > 262144 then
    raise exception using errcode = 'PT422',
      message = 'execution_metadata is a JSON object of at most 256 KiB';
  end if;

  select l.attempt into v_attempt from public.provision_leases l
    where l.provision_id = p_provision_id and l.cluster_id = p_cluster_id
      and l.agent_id is not distinct from p_agent_id
      and (l.attempt = p_attempt or (p_attempt is null and l.agent_id is null))
    for update;
  if not found then
    return tendril_private.repeated_report(
      p_cluster_id, p_provision_id, p_status, p_attempt, p_agent_id);
  end if;

  if p_status = 'PROCESSING' then
    update public.provisions p set execution_metadata = p.execution_metadata || v_metadata
      where p.id = p_provision_id and v_metadata <> '{}';
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  -- The outcome is never visible before the last line of the log.
  select e.next_seq into v_stored from tendril_private.log_end(p_provision_id, v_attempt) e;
  if v_stored < p_log_chunks then
    raise exception using errcode = 'PT422', message = 'the log is not complete yet',
      detail = format('stored=%s expected=%s', v_stored, p_log_chunks),
      hint = 'deliver the missing chunks first';
  end if;
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  update public.provisions p set
    status = p_status,
    completed_at = clock_timestamp(),
    error_message = left(p_error_message, 8192),
    error_code = left(p_error_code, 100),
    execution_metadata = p.execution_metadata || v_metadata
  where p.id = p_provision_id;
  return jsonb_build_object('status', p_status, 'changed', true);
end $$;
comment on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb) is
  'For agents: report the attempt''s status; a final one ends its lease. Refused with PT422 until '
  'p_log_chunks chunks are stored, with PT409 if the lease is lost. Repeating a report is a success. '
  'Answers {status, changed}.';

create function tendril_private.repeated_report(
  p_cluster_id uuid, p_provision_id uuid, p_status text, p_attempt int, p_agent_id uuid
) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_provision public.provisions;
begin
  select p.* into v_provision from public.provisions p
    where p.id = p_provision_id and p.cluster_id = p_cluster_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  if v_provision.status in ('SUCCESS', 'FAILED', 'CANCELLED')
      and v_provision.status = p_status
      and v_provision.attempt > 0
      and (v_provision.attempt = p_attempt or (p_attempt is null and p_agent_id is null))
      and v_provision.claimed_by is not distinct from p_agent_id then
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  raise exception using errcode = 'PT409', message = 'the lease is lost',
    hint = 'stop the attempt and report nothing more';
end $$;
comment on function tendril_private.repeated_report(uuid, uuid, text, int, uuid) is
  'A report without a lease: a success if it repeats the one that ended the attempt, else PT409.';

revoke all on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb),
  tendril_private.repeated_report(uuid, uuid, text, int, uuid)
  from public, anon, authenticated, service_role;
grant execute on function
  public.update_provision_status(uuid, text, uuid, text, text, int, uuid, int, text, jsonb)
  to anon;
