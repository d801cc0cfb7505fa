-- Signed provisions: what the control plane carries may be signed by its submitter, so that an agent
-- with trusted keys runs nothing that whoever holds the database made up or changed. The database
-- keeps the signature and judges nothing: only agents do.

alter table public.provisions add column signature text check (length(signature) <= 512);
comment on column public.provisions.signature is
  'The submitter''s Ed25519 signature over cluster, operation, stack and snapshot, with the time until '
  'which it holds (docs/signing.md). Null: not signed. Verified by agents that are given trusted keys.';
grant insert (signature) on public.provisions to authenticated, service_role;

create function tendril_private.check_signature() returns trigger
language plpgsql volatile set search_path = '' as $$
begin
  if length(new.signature) > 512 then
    raise exception using errcode = 'PT422', message = 'signature is v1.<time>.<base64url>';
  end if;
  return new;
end $$;
comment on function tendril_private.check_signature() is
  'Refuse with PT422 what cannot be a signature; whether it is a good one only agents know.';
create trigger check_signature before insert on public.provisions
  for each row when (new.signature is not null)
  execute function tendril_private.check_signature();
comment on trigger check_signature on public.provisions is
  'Too long for a signature is refused with a status of its own.';

-- A further argument makes another function, and both could be meant by the same call: so the one
-- without it goes. Calls that do not name the argument are answered as before.
drop function public.create_provision(uuid, jsonb, text, text, uuid);
create function public.create_provision(
  p_cluster_id uuid default null,
  p_config_snapshot jsonb default null,
  p_configuration_hash text default null,
  p_operation text default 'APPLY',
  p_configuration_id uuid default null,
  p_signature text default null
) returns setof public.provisions
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_user uuid := tendril_private.caller();
  v_configuration public.configurations;
  v_cluster_id uuid := p_cluster_id;
  v_snapshot jsonb := nullif(p_config_snapshot, 'null');
begin
  if p_configuration_id is not null then
    select g.* into v_configuration from public.configurations g
      where g.id = p_configuration_id and g.user_id = v_user;
    if not found then
      raise exception using errcode = 'PT404', message = 'no such configuration';
    end if;
    v_cluster_id := coalesce(v_cluster_id, v_configuration.cluster_id);
    v_snapshot := coalesce(v_snapshot, tendril_private.snapshot_of(v_configuration));
  end if;
  perform from public.clusters c where c.id = v_cluster_id and c.user_id = v_user;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return query
    insert into public.provisions
      (cluster_id, configuration_id, operation, config_snapshot, configuration_hash, signature)
    values
      (v_cluster_id, p_configuration_id, p_operation, v_snapshot, p_configuration_hash, p_signature)
    returning *;
end $$;
comment on function public.create_provision(uuid, jsonb, text, text, uuid, text) is
  'For owners: queue a provision of a snapshot, of a configuration as it was saved last, or of a '
  'snapshot that was made from a configuration. Answers its row. PT422 names a malformed field in its '
  'details.';

revoke all on function tendril_private.check_signature(),
  public.create_provision(uuid, jsonb, text, text, uuid, text)
  from public, anon, authenticated, service_role;
grant execute on function public.create_provision(uuid, jsonb, text, text, uuid, text)
  to authenticated;
