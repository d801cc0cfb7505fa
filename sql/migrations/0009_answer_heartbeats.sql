-- The heartbeat: "this agent lives", and everything that is due when an agent is heard.

create function tendril_private.check_agent(p_agent jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  v_leases jsonb := coalesce(p_agent -> 'leases', '[]');
begin
  if jsonb_typeof(p_agent) <> 'object' or not tendril_private.is_uuid(p_agent ->> 'id') then
    raise exception using errcode = 'PT422', message = 'p_agent is an object with a uuid id';
  end if;
  if coalesce(p_agent ->> 'state', 'ONLINE') not in ('ONLINE', 'DRAINING')
      or coalesce(p_agent ->> 'capacity', '0') !~ '^[0-9]{1,9}$' then
    raise exception using errcode = 'PT422',
      message = 'p_agent.state is ONLINE or DRAINING, p_agent.capacity a count';
  end if;
  if jsonb_typeof(v_leases) <> 'array' or jsonb_array_length(v_leases) > 1000 then
    raise exception using errcode = 'PT422', message = 'p_agent.leases is a list of at most 1000';
  end if;
  perform from jsonb_array_elements(v_leases) as x (item)
    where jsonb_typeof(x.item) <> 'object'
      or not tendril_private.is_uuid(x.item ->> 'provision_id')
      or coalesce(x.item ->> 'attempt', '') !~ '^[0-9]{1,9}$'
      or coalesce(x.item ->> 'phase', 'PREPARE') not in ('PREPARE', 'PLAN', 'APPLY');
  if found then
    raise exception using errcode = 'PT422',
      message = 'a lease in p_agent.leases is {provision_id, attempt, phase}',
      hint = 'phase is PREPARE, PLAN or APPLY';
  end if;
end $$;
comment on function tendril_private.check_agent(jsonb) is
  'Raise PT422 unless the heartbeat''s p_agent has the shape that is read.';

create function tendril_private.register_agent(p_cluster_id uuid, p_agent jsonb) returns void
language plpgsql volatile set search_path = '' as $$
declare
  c_agents_at_most constant int := 1000;  -- of one cluster
  v_agent_id uuid := (p_agent ->> 'id')::uuid;
  v_hostname text := left(p_agent ->> 'hostname', 255);
  v_version text := left(p_agent ->> 'version', 100);
  v_state text := coalesce(p_agent ->> 'state', 'ONLINE');
  v_capacity int := case when p_agent ->> 'capacity' is not null
    then least((p_agent ->> 'capacity')::int, 1000) end;
begin
  update public.agents a set hostname = v_hostname, version = v_version, state = v_state,
      capacity = v_capacity, last_seen = clock_timestamp()
    where a.cluster_id = p_cluster_id and a.id = v_agent_id;
  if found then
    return;
  end if;
  insert into public.agents (cluster_id, id, hostname, version, state, capacity, last_seen)
    values (p_cluster_id, v_agent_id, v_hostname, v_version, v_state, v_capacity,
      clock_timestamp())
    on conflict do nothing;
  -- An agent that lost its state directory comes back as another: the old ones are forgotten.
  delete from public.agents a
    where a.cluster_id = p_cluster_id and a.last_seen < now() - interval '7 days';
  if (select count(*) from public.agents a where a.cluster_id = p_cluster_id) > c_agents_at_most then
    raise exception using errcode = 'PT429', message = 'the cluster has too many agents',
      hint = 'an agent keeps its id in TENDRIL_STATE_DIR: is that folder lost at every start?';
  end if;
  perform tendril_private.audit('agent_registered', p_cluster_id, p_agent_id => v_agent_id);
end $$;
comment on function tendril_private.register_agent(uuid, jsonb) is
  'Write down what a heartbeat says of its agent.';

create function public.agent_heartbeat(
  p_cluster_id uuid,
  p_token_hash text,
  p_agent jsonb default null
) returns jsonb
language plpgsql volatile security definer set search_path = '' set enable_seqscan = off as $$
declare
  v_agent jsonb := nullif(p_agent, 'null');
  v_agent_id uuid;
  v_listed jsonb;
  v_leases jsonb := '[]';
  v_taken_up boolean;
  v_sweeps boolean;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  update public.clusters c set status = 'ONLINE', last_heartbeat = clock_timestamp()
    where c.id = p_cluster_id and c.status <> 'ONLINE';
  if found then
    perform tendril_private.audit('cluster_online', p_cluster_id);
  else
    update public.clusters c set last_heartbeat = clock_timestamp()
      from tendril_private.settings s
      where s.one_row and c.id = p_cluster_id
        and c.last_heartbeat < clock_timestamp() - s.beat_coalescing;
  end if;
  -- After the cluster's row, as in rotate_cluster_token.
  update public.cluster_tokens t set last_used_at = now()
    where t.cluster_id = p_cluster_id and t.verifier = tendril_private.verifier_of(p_token_hash)
      and (t.last_used_at is null or t.last_used_at < now() - interval '1 min');

  if v_agent is null then
    perform from public.provision_leases l
      where l.cluster_id = p_cluster_id and l.agent_id is null
      order by l.provision_id for update;
    update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl
      from tendril_private.settings s
      where s.one_row and l.cluster_id = p_cluster_id and l.agent_id is null;
  else
    perform tendril_private.check_agent(v_agent);
    perform tendril_private.register_agent(p_cluster_id, v_agent);
    v_agent_id := (v_agent ->> 'id')::uuid;
    v_listed := coalesce(v_agent -> 'leases', '[]');
    v_leases := tendril_private.renew_leases(p_cluster_id, v_agent_id, v_listed);
  end if;

  -- Given up in APPLY, perhaps this moment, while we waited for the lease? It is heard again.
  select bool_or(tendril_private.take_up_lease(lost.provision_id)) into v_taken_up from (
      select l.provision_id from tendril_private.lost_leases l
      where l.cluster_id = p_cluster_id and l.agent_id is not distinct from v_agent_id
        and (v_agent is null or exists (
          select from jsonb_array_elements(v_listed) as x (item)
          where (x.item ->> 'provision_id')::uuid = l.provision_id
            and (x.item ->> 'attempt')::int = l.attempt))
      order by l.provision_id) lost;
  if v_taken_up and v_agent is not null then
    v_leases := tendril_private.renew_leases(p_cluster_id, v_agent_id, v_listed);
  end if;

  v_sweeps := tendril_private.hear_agent();
  perform tendril_private.reap_cluster(p_cluster_id);
  if v_sweeps then
    perform tendril_private.sweep();
  end if;
  return (select jsonb_build_object(
      'leases', v_leases,
      'drain', c.drain,
      'server_time', clock_timestamp(),
      'lease_ttl_s', trim_scale(extract(epoch from s.lease_ttl)))
    from tendril_private.settings s cross join public.clusters c
    where s.one_row and c.id = p_cluster_id);
end $$;
comment on function public.agent_heartbeat(uuid, text, jsonb) is
  'For agents, every 30 s: the cluster is ONLINE, the agent registered; the listed leases live on, or '
  'are taken up again; then silent agents are reaped. p_agent: {id, hostname, version, state: '
  'ONLINE|DRAINING, capacity, leases: [{provision_id, attempt, phase}]}; without it all leases of the '
  'cluster that were claimed without an agent id are renewed. Answers {leases: [{provision_id, '
  'attempt, held, cancel: none|graceful|force}], drain, server_time, lease_ttl_s}. held = false: '
  'superseded, stop.';

revoke all on function tendril_private.check_agent(jsonb),
  tendril_private.register_agent(uuid, jsonb),
  public.agent_heartbeat(uuid, text, jsonb)
  from public, anon, authenticated, service_role;
grant execute on function public.agent_heartbeat(uuid, text, jsonb) to anon;
