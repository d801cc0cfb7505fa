-- Configurations: the desired state that a user edits. A provision freezes a copy of it.

create table public.configurations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  cluster_id uuid not null references public.clusters,
  name text not null check (length(name) between 1 and 100),
  template_source jsonb not null,
  terraform_vars jsonb,
  options jsonb not null default '{}' check (jsonb_typeof(options) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (cluster_id, name)
);
comment on table public.configurations is
  'What a user wants to exist, by name. Owners read their own and write through save_configuration.';
comment on column public.configurations.id is
  'Also names the stack, that is the Terraform state, of the provisions made from it.';
comment on column public.configurations.user_id is 'The owner, who is also that of the cluster.';
comment on column public.configurations.cluster_id is 'Where it is to exist.';
comment on column public.configurations.name is 'For people; unique in the cluster.';
comment on column public.configurations.template_source is 'Which template: {repo, version, path}.';
comment on column public.configurations.terraform_vars is 'The template''s variables.';
comment on column public.configurations.options is
  'Every other key of the snapshot: sensitive, backend_config, cost_estimate, meta, …';
comment on column public.configurations.created_at is 'When it was first saved.';
comment on column public.configurations.updated_at is 'When it was last saved.';

create index configurations_owner on public.configurations ((user_id::text));

revoke all on public.configurations from public, anon, authenticated, service_role;
alter table public.configurations enable row level security;
grant select on public.configurations to authenticated, service_role;
-- Compared as text, as everywhere: a malformed claim sees nothing and breaks nothing.
create policy owner_reads on public.configurations for select to authenticated
  using (user_id::text
    = (select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'));
comment on policy owner_reads on public.configurations is 'Owners see their own configurations.';


create function tendril_private.snapshot_fault(p_snapshot jsonb) returns text
language sql immutable parallel safe set search_path = '' as $$
  select 'config_snapshot' || found.fault
  from (
    select rule.position, rule.path || ' ' || rule.wanted as fault
    from (values
      (1, '', 'must be an object',
        jsonb_typeof(p_snapshot) = 'object'),
      (2, '.template_source', 'must be an object',
        jsonb_typeof(p_snapshot -> 'template_source') = 'object'),
      (3, '.template_source.repo', 'must be a string, not empty',
        jsonb_typeof(p_snapshot #> '{template_source,repo}') = 'string'
        and p_snapshot #>> '{template_source,repo}' <> ''),
      (4, '.template_source.version', 'must be a string, not empty',
        jsonb_typeof(p_snapshot #> '{template_source,version}') = 'string'
        and p_snapshot #>> '{template_source,version}' <> ''),
      (5, '.template_source.path', 'must be a string or null',
        coalesce(jsonb_typeof(p_snapshot #> '{template_source,path}'), 'null') in ('string', 'null')),
      (6, '.terraform_vars', 'must be an object or null',
        coalesce(jsonb_typeof(p_snapshot -> 'terraform_vars'), 'null') in ('object', 'null')),
      (8, '.sensitive', 'must be a list of strings',
        coalesce(jsonb_typeof(p_snapshot -> 'sensitive'), 'array') = 'array'
        and jsonb_path_exists(p_snapshot,
          'strict $.sensitive[*] ? (@.type() != "string")', silent => true) is not true),
      (9, '.backend_config', 'must be an object of strings, booleans and integers, or null',
        coalesce(jsonb_typeof(p_snapshot -> 'backend_config'), 'null') in ('object', 'null')
        and jsonb_path_exists(p_snapshot,
          'strict $.backend_config.* ? (@.type() == "null" || @.type() == "array"
            || @.type() == "object" || (@.type() == "number" && @.floor() != @))',
          silent => true) is not true)
    ) as rule (position, path, wanted, is_met)
    where rule.is_met is not true
    union all
    select 7, format('.terraform_vars: %s is not the name of a Terraform variable',
      to_json(left(variable.name, 100)))
    from jsonb_object_keys(case jsonb_typeof(p_snapshot -> 'terraform_vars')
      when 'object' then p_snapshot -> 'terraform_vars' else '{}' end) as variable (name)
    where variable.name !~ '^[A-Za-z_][A-Za-z0-9_-]*$'
  ) as found
  order by found.position, found.fault limit 1
$$;
comment on function tendril_private.snapshot_fault(jsonb) is
  'What is wrong with a config_snapshot''s shape, by the name of the field and without its value; '
  'null: nothing. The same rules as the agent''s.';

create function tendril_private.check_snapshot(p_snapshot jsonb) returns void
language plpgsql immutable set search_path = '' as $$
declare
  c_bytes_at_most constant int := 1048576;
  v_fault text;
begin
  if octet_length(p_snapshot::text) > c_bytes_at_most then
    raise exception using errcode = 'PT422', message = 'config_snapshot is larger than 1 MiB';
  end if;
  v_fault := tendril_private.snapshot_fault(p_snapshot);
  if v_fault is not null then
    raise exception using errcode = 'PT422', message = 'config_snapshot is malformed',
      detail = v_fault;
  end if;
end $$;
comment on function tendril_private.check_snapshot(jsonb) is
  'Raise PT422, with the field in the detail, unless an agent can work with the snapshot.';

create function tendril_private.snapshot_of(p_configuration public.configurations) returns jsonb
language sql immutable parallel safe
return p_configuration.options
  || jsonb_build_object('template_source', p_configuration.template_source)
  || case when p_configuration.terraform_vars is null then '{}'
    else jsonb_build_object('terraform_vars', p_configuration.terraform_vars) end;
comment on function tendril_private.snapshot_of(public.configurations) is
  'The snapshot that the configuration was saved from.';

create function public.save_configuration(
  p_cluster_id uuid,
  p_name text,
  p_config_snapshot jsonb,
  p_configuration_id uuid default null
) returns setof public.configurations
language plpgsql volatile security definer set search_path = '' as $$
declare
  v_cluster public.clusters := tendril_private.owned_cluster(p_cluster_id);
  v_name text := trim(coalesce(p_name, ''));
  v_configuration public.configurations;
begin
  if length(v_name) not between 1 and 100 then
    raise exception using errcode = 'PT422', message = 'a configuration name has 1 to 100 characters';
  end if;
  perform tendril_private.check_snapshot(p_config_snapshot);
  if exists (select from public.configurations g where g.cluster_id = p_cluster_id
      and g.name = v_name and g.id is distinct from p_configuration_id) then
    raise exception using errcode = 'PT422',
      message = 'the cluster has another configuration of this name';
  end if;
  if p_configuration_id is null then
    insert into public.configurations
        (user_id, cluster_id, name, template_source, terraform_vars, options)
      values (v_cluster.user_id, p_cluster_id, v_name, p_config_snapshot -> 'template_source',
        p_config_snapshot -> 'terraform_vars',
        p_config_snapshot - '{template_source,terraform_vars}'::text[])
      returning * into v_configuration;
  else
    update public.configurations g set cluster_id = p_cluster_id, name = v_name,
        template_source = p_config_snapshot -> 'template_source',
        terraform_vars = p_config_snapshot -> 'terraform_vars',
        options = p_config_snapshot - '{template_source,terraform_vars}'::text[],
        updated_at = clock_timestamp()
      where g.id = p_configuration_id and g.user_id = v_cluster.user_id
      returning g.* into v_configuration;
    if not found then
      raise exception using errcode = 'PT404', message = 'no such configuration';
    end if;
  end if;
  perform tendril_private.audit('configuration_saved', p_cluster_id,
    p_detail => jsonb_build_object('configuration_id', v_configuration.id));
  return next v_configuration;
end $$;
comment on function public.save_configuration(uuid, text, jsonb, uuid) is
  'For owners: save the desired state, as a snapshot; with p_configuration_id over what is there, else '
  'as a new configuration. Answers its row.';

revoke all on function tendril_private.snapshot_fault(jsonb),
  tendril_private.check_snapshot(jsonb),
  tendril_private.snapshot_of(public.configurations),
  public.save_configuration(uuid, text, jsonb, uuid)
  from public, anon, authenticated, service_role;
grant execute on function public.save_configuration(uuid, text, jsonb, uuid) to authenticated;
