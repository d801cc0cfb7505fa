-- What the scenarios share. Loaded once into the database that each scenario's own is copied from.
--
-- A scenario starts at "-- scenario: <name>", runs as superuser in one transaction, and fails by
-- raising. It becomes an API role with tests.as_*(), and itself again with tests.as_admin().

create schema tests;
grant usage on schema tests to public;

create function tests.alice() returns uuid language sql immutable
return 'a11ce000-0000-4000-8000-000000000001'::uuid;
create function tests.bob() returns uuid language sql immutable
return 'b0b00000-0000-4000-8000-000000000002'::uuid;

create function tests.cluster() returns uuid language sql immutable
return 'c0000000-0000-4000-8000-000000000001'::uuid;
create function tests.bobs_cluster() returns uuid language sql immutable
return 'c0000000-0000-4000-8000-000000000002'::uuid;

create function tests.hash() returns text language sql immutable return repeat('a1', 32);
create function tests.bobs_hash() returns text language sql immutable return repeat('b0', 32);

create function tests.agent() returns uuid language sql immutable
return 'a0000000-0000-4000-8000-000000000001'::uuid;
create function tests.other_agent() returns uuid language sql immutable
return 'a0000000-0000-4000-8000-000000000002'::uuid;

insert into public.clusters (id, user_id, name, max_concurrency) values
  (tests.cluster(), tests.alice(), 'alice''s', 10),
  (tests.bobs_cluster(), tests.bob(), 'bob''s', 10);
insert into public.cluster_tokens (cluster_id, verifier) values
  (tests.cluster(), tendril_private.verifier_of(tests.hash())),
  (tests.bobs_cluster(), tendril_private.verifier_of(tests.bobs_hash()));


create function tests.as_admin() returns void language plpgsql as $$
begin
  perform set_config('role', 'none', true);
  perform set_config('request.jwt.claims', '', true);
end $$;

create function tests.as_agent(p_claims jsonb default '{"role": "anon"}') returns void
language plpgsql as $$
begin
  perform set_config('request.jwt.claims', p_claims::text, true);
  perform set_config('role', 'anon', true);
end $$;

create function tests.as_service() returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claims', '{"role": "service_role"}', true);
  perform set_config('role', 'service_role', true);
end $$;

create function tests.as_owner(p_subject text) returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claims',
    jsonb_build_object('role', 'authenticated', 'sub', p_subject)::text, true);
  perform set_config('role', 'authenticated', true);
end $$;

-- Run p_sql, which must fail with p_code; answers the message. A message becomes HTTP's reason
-- phrase, so it must be one line of ours.
create function tests.refused(p_code text, p_sql text) returns text language plpgsql as $$
declare
  v_code text;
  v_message text;
begin
  begin
    execute p_sql;
  exception when others then
    get stacked diagnostics v_code = returned_sqlstate, v_message = message_text;
  end;
  assert v_code is not null, format('succeeded: %s', p_sql);
  assert v_code = p_code, format('%s (%s), not %s: %s', v_code, v_message, p_code, p_sql);
  assert v_message !~ '[\r\n]' and v_message !~* 'hostile', format('unsafe: %s', v_message);
  return v_message;
end $$;

create function tests.snapshot() returns jsonb language sql immutable
return '{"template_source": {"repo": "https://example.test/t.git", "version": "v1"}}'::jsonb;

create function tests.submit(
  p_configuration_id uuid default gen_random_uuid(), p_cluster_id uuid default tests.cluster()
) returns uuid language sql volatile as $$
  insert into public.provisions (cluster_id, configuration_id, config_snapshot)
  values (p_cluster_id, p_configuration_id, tests.snapshot())
  returning id
$$;

create function tests.claim(p_agent_id uuid default tests.agent()) returns public.provisions
language sql volatile as $$
  select * from public.fetch_next_provision(tests.cluster(), tests.hash(), p_agent_id)
$$;

create function tests.beat(
  p_provision_id uuid, p_attempt int, p_phase text, p_agent_id uuid default tests.agent()
) returns jsonb language sql volatile as $$
  select public.agent_heartbeat(tests.cluster(), tests.hash(), jsonb_build_object(
    'id', p_agent_id, 'hostname', 'h', 'version', '1', 'state', 'ONLINE', 'capacity', 1,
    'leases', jsonb_build_array(jsonb_build_object(
      'provision_id', p_provision_id, 'attempt', p_attempt, 'phase', p_phase)))) #> '{leases,0}'
$$;

create function tests.log(
  p_provision_id uuid, p_attempt int, p_first_seq int, p_chunks jsonb,
  p_agent_id uuid default tests.agent()
) returns jsonb language sql volatile as $$
  select public.insert_provision_logs(
    tests.cluster(), tests.hash(), p_provision_id, p_attempt, p_agent_id, p_first_seq, p_chunks)
$$;

create function tests.report(
  p_provision_id uuid, p_attempt int, p_status text, p_log_chunks int default null,
  p_agent_id uuid default tests.agent()
) returns jsonb language sql volatile as $$
  select public.update_provision_status(
    p_cluster_id => tests.cluster(), p_token_hash => tests.hash(),
    p_provision_id => p_provision_id, p_status => p_status, p_attempt => p_attempt,
    p_agent_id => p_agent_id, p_log_chunks => p_log_chunks)
$$;

create function tests.provision(p_id uuid) returns public.provisions language sql stable as $$
  select * from public.provisions where id = p_id
$$;

-- As if the agent had been silent for that long.
create function tests.silence(p_provision_id uuid, p_for interval) returns void
language sql volatile as $$
  update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl - p_for
  from tendril_private.settings s where l.provision_id = p_provision_id
$$;

-- A provision that was given up in APPLY.
create function tests.lost_in_apply(p_stack uuid default gen_random_uuid())
returns public.provisions language plpgsql as $$
declare
  v_provision public.provisions;
begin
  perform tests.submit(p_stack);
  v_provision := tests.claim();
  perform tests.beat(v_provision.id, v_provision.attempt, 'APPLY');
  perform tests.silence(v_provision.id, '17 min');
  perform tests.claim(tests.other_agent());
  v_provision := tests.provision(v_provision.id);
  assert v_provision.error_code = 'AGENT_LOST_DURING_APPLY';
  return v_provision;
end $$;

-- What was written down of a provision, in order; of none: what names no provision.
create function tests.audited(p_provision_id uuid) returns text[] language sql stable as $$
  select coalesce(array_agg(e.action order by e.id), '{}')
  from public.audit_events e where e.provision_id is not distinct from p_provision_id
$$;
