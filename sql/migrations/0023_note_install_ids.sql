-- Which installation an agent belongs to: so that whoever installs one can tell its first heartbeat
-- from those of agents that were there before.

alter table public.agents add column install_id text check (length(install_id) <= 100);
comment on column public.agents.install_id is
  'The installation that it belongs to (TENDRIL_INSTALL_ID), as it says; null where it says nothing.';

create or replace function tendril_private.register_agent(p_cluster_id uuid, p_agent jsonb)
returns void
language plpgsql volatile set search_path = '' as $$
declare
  c_agents_at_most constant int := 1000;  -- of one cluster
  v_agent_id uuid := (p_agent ->> 'id')::uuid;
  v_hostname text := left(p_agent ->> 'hostname', 255);
  v_version text := left(p_agent ->> 'version', 100);
  v_install_id text := left(p_agent ->> 'install_id', 100);
  v_state text := coalesce(p_agent ->> 'state', 'ONLINE');
  v_capacity int := case when p_agent ->> 'capacity' is not null
    then least((p_agent ->> 'capacity')::int, 1000) end;
begin
  update public.agents a set hostname = v_hostname, version = v_version, state = v_state,
      capacity = v_capacity, install_id = v_install_id, last_seen = clock_timestamp()
    where a.cluster_id = p_cluster_id and a.id = v_agent_id;
  if found then
    return;
  end if;
  insert into public.agents
      (cluster_id, id, hostname, version, state, capacity, install_id, last_seen)
    values (p_cluster_id, v_agent_id, v_hostname, v_version, v_state, v_capacity, v_install_id,
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
