-- Whoever reads a verdict on a silent agent learns from it that the log may lack its end: what had
-- not reached the control plane is on the agent's disk, or nowhere.

create or replace function tendril_private.reap_lease(p_provision_id uuid) returns boolean
language plpgsql volatile set search_path = '' as $$
declare
  v_lease public.provision_leases;
  v_status text;
begin
  select l.* into v_lease from public.provision_leases l
    where l.provision_id = p_provision_id for update skip locked;
  if not found then
    return false;
  end if;
  -- Again, now that nobody can renew it.
  perform from tendril_private.dead_leases d where d.provision_id = p_provision_id;
  if not found then
    return false;
  end if;
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  if v_lease.phase = 'APPLY' then
    insert into tendril_private.lost_leases
        (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id)
      values (v_lease.provision_id, v_lease.cluster_id, v_lease.stack_key, v_lease.attempt,
        v_lease.agent_id, v_lease.claim_id);
    update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST_DURING_APPLY',
      error_message = 'The agent went silent while Terraform may have been changing resources. '
        'Nothing was run again, and the end of the log may be missing. Check the real state and the '
        'state lock before the next run.'
    where p.id = p_provision_id
    returning p.status into v_status;
  elsif exists (select from public.provisions p
      where p.id = p_provision_id and p.cancel_requested_at is not null) then
    update public.provisions p set status = 'CANCELLED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST',
      error_message = 'Cancelled; the agent went silent before it changed anything. The end of the '
        'log may be missing.'
    where p.id = p_provision_id
    returning p.status into v_status;
  else
    update public.provisions p set status = 'QUEUED', started_at = null,
      not_before = clock_timestamp() + least(s.retry_cap, s.retry_base * 2.0 ^ (p.attempt - 1))
        * (0.75 + random() / 2)
    from tendril_private.settings s
    where s.one_row and p.id = p_provision_id and p.attempt < p.max_attempts
    returning p.status into v_status;
    if not found then
      update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
        error_code = 'AGENT_LOST',
        error_message = format('The agent went silent in each of %s attempts, before it changed '
          'anything; the ends of their logs may be missing. Check the agent''s host, then submit '
          'again.', p.attempt)
      where p.id = p_provision_id
      returning p.status into v_status;
    end if;
  end if;
  perform tendril_private.audit_system('lease_reaped', v_lease.cluster_id, p_provision_id,
    jsonb_build_object('attempt', v_lease.attempt, 'phase', v_lease.phase, 'status', v_status),
    v_lease.agent_id);
  return true;
end $$;
