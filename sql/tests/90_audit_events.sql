-- scenario: who did what: an owner's acts
do $$
declare
  v_provision uuid;
begin
  perform tests.as_owner(tests.alice()::text);
  perform public.set_cluster_options(tests.cluster(), 2);
  perform public.revoke_cluster_token(
    (public.rotate_cluster_token(tests.cluster()) ->> 'token_id')::uuid);
  v_provision := (public.create_provision(p_configuration_id =>
    (public.save_configuration(tests.cluster(), 'x', tests.snapshot())).id)).id;
  perform public.cancel_provision(v_provision);
  perform public.cancel_provision(v_provision, true);
  assert (select array_agg(e.action order by e.id) from public.audit_events e
    where e.actor = 'owner' and e.user_id = tests.alice() and e.cluster_id = tests.cluster())
    = '{cluster_options_set,token_rotated,token_revoked,configuration_saved,provision_created,'
      'cancel_requested}';
  assert (select array_agg(e.action order by e.id) from public.audit_events e
    where e.provision_id = v_provision) = '{provision_created,cancel_requested}';
  assert not exists (select from public.audit_events e where e.detail::text ~ 'tendril_');
  perform tests.as_owner(tests.bob()::text);
  assert not exists (select from public.audit_events);
end $$;

-- scenario: a direct insert is written down like the function
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  insert into public.provisions (cluster_id, config_snapshot) values (tests.cluster(), tests.snapshot());
  assert (select e.action || e.actor || e.user_id from public.audit_events e)
    = 'provision_createdowner' || tests.alice();
end $$;

-- scenario: an agent's acts, with the cluster and the fingerprint that its headers name
do $$
declare
  v_id uuid := tests.submit();
begin
  perform set_config('request.headers', jsonb_build_object('x-cluster-id', tests.cluster(),
    'x-agent-token', tests.hash(), 'authorization', 'Bearer hostile')::text, true);
  perform tests.as_agent();
  perform public.fetch_next_provision(tests.cluster(), tests.hash(), tests.agent());
  perform public.update_provision_status(tests.cluster(), tests.hash(), v_id, 'FAILED',
    p_attempt => 1, p_agent_id => tests.agent(), p_error_code => 'X');
  perform public.update_provision_status(tests.cluster(), tests.hash(), v_id, 'FAILED',
    p_attempt => 1, p_agent_id => tests.agent(), p_error_code => 'X');
  perform tests.as_admin();
  assert (select array_agg(row(e.action, e.actor, e.agent_id, e.cluster_id, e.request_cluster_id,
      e.token_fingerprint, e.detail)::text order by e.id) from public.audit_events e)
    = array[
      row('provision_claimed', 'agent', tests.agent(), tests.cluster(), tests.cluster(),
        left(tests.hash(), 12), '{"attempt": 1}'::jsonb)::text,
      row('provision_ended', 'agent', tests.agent(), tests.cluster(), tests.cluster(),
        left(tests.hash(), 12), '{"attempt": 1, "status": "FAILED", "error_code": "X"}'::jsonb)::text];
  assert not exists (select from public.audit_events e where e::text ~* 'hostile|bearer');
end $$;

-- scenario: headers that are none of ours, or lie
do $$
declare
  v_header text;
begin
  foreach v_header in array array['', '{}', '{"x-agent-token": "tendril_0123456789abcdef"}',
    '{"x-agent-token": "\r\nhostile", "x-cluster-id": "hostile"}', '{"x-cluster-id": {"a": 1}}']
  loop
    perform set_config('request.headers', v_header, true);
    perform tests.submit();
    perform tests.claim();
  end loop;
  perform set_config('request.headers', '{"x-agent-token": "ABCDEF"}', true);
  perform tests.submit();
  perform tests.claim();
  assert (select count(*) from public.audit_events) = 6;
  assert (select array_agg(e.token_fingerprint) from public.audit_events e
    where e.token_fingerprint is not null or e.request_cluster_id is not null) = '{abcdef}';
end $$;

-- scenario: of what time brings about, the request that noticed is not kept
do $$
declare
  v_provision public.provisions;
begin
  perform tests.submit();
  v_provision := tests.claim();
  perform tests.silence(v_provision.id, '106 s');
  perform set_config('request.headers',
    jsonb_build_object('x-cluster-id', tests.bobs_cluster(), 'x-agent-token', 'b0b0')::text, true);
  update public.clusters set status = 'ONLINE', last_heartbeat = now() - interval '91 s';
  perform tests.as_agent();
  perform public.agent_heartbeat(tests.bobs_cluster(), tests.bobs_hash());
  perform tests.as_owner(tests.alice()::text);
  assert (select array_agg(row(e.action, e.actor, e.agent_id, e.request_cluster_id,
      e.token_fingerprint, e.detail)::text order by e.id) from public.audit_events e
    where e.actor = 'system')
    = array[
      row('lease_reaped', 'system', tests.agent(), null, null,
        '{"attempt": 1, "phase": "PREPARE", "status": "QUEUED"}'::jsonb)::text,
      row('cluster_offline', 'system', null, null, null, null)::text];
end $$;

-- scenario: append-only for every role, the table's owner included
do $$
declare
  v_statement text;
begin
  perform tendril_private.audit('x');
  foreach v_statement in array array['update public.audit_events set action = ''y''',
    'delete from public.audit_events', 'truncate public.audit_events']
  loop
    perform tests.refused('PT422', v_statement);
    perform tests.as_owner(tests.alice()::text);
    perform tests.refused('42501', v_statement);
    perform tests.as_service();
    perform tests.refused('42501', v_statement);
    perform tests.as_admin();
  end loop;
  perform tests.as_service();
  perform tests.refused('42501', 'insert into public.audit_events (action, actor) values (''x'', ''agent'')');
end $$;

-- scenario: the rest that changes something
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  perform public.register_cluster('x');
  perform tests.as_service();
  perform tendril_private.set_jwt_secret('hostile');
  perform tests.as_admin();
  perform tests.submit();
  update public.provisions set status = 'CANCELLED', completed_at = now() - interval '1 s';
  perform tests.as_service();
  perform public.prune_logs('0');
  assert (select array_agg(e.action || ' ' || e.actor order by e.id) from public.audit_events e)
    = '{"cluster_registered owner","jwt_secret_set service","logs_pruned service"}';
  assert not exists (select from public.audit_events e where e::text ~ 'hostile');
end $$;
