-- Refuse at the door what an agent would refuse later: a sensitive name that hides nothing, and
-- time limits that are none. Allow what it takes by now: fractions in backend_config.

create or replace function tendril_private.snapshot_fault(p_snapshot jsonb) returns text
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
      (8, '.sensitive', 'must be a list of strings or null',
        coalesce(jsonb_typeof(p_snapshot -> 'sensitive'), 'null') in ('array', 'null')
        and jsonb_path_exists(p_snapshot,
          'strict $.sensitive[*] ? (@.type() != "string")', silent => true) is not true),
      (10, '.backend_config', 'must be an object of strings, numbers and booleans, or null',
        coalesce(jsonb_typeof(p_snapshot -> 'backend_config'), 'null') in ('object', 'null')
        and jsonb_path_exists(p_snapshot,
          'strict $.backend_config.* ? (@.type() == "null" || @.type() == "array"
            || @.type() == "object")', silent => true) is not true),
      (12, '.timeouts', 'must be an object or null',
        coalesce(jsonb_typeof(p_snapshot -> 'timeouts'), 'null') in ('object', 'null')),
      (14, '.cost_estimate', 'must be true, false or null',
        coalesce(jsonb_typeof(p_snapshot -> 'cost_estimate'), 'null') in ('boolean', 'null'))
    ) as rule (position, path, wanted, is_met)
    where rule.is_met is not true
    union all
    select named.position, format('.%s: %s is not the name of a Terraform variable or setting',
      named.field, to_json(left(member.name, 100)))
    from (values (7, 'terraform_vars'), (11, 'backend_config')) as named (position, field),
      lateral jsonb_object_keys(case jsonb_typeof(p_snapshot -> named.field)
        when 'object' then p_snapshot -> named.field else '{}' end) as member (name)
    where member.name !~ '^[A-Za-z_][A-Za-z0-9_-]*$'
    union all
    select 9, format('.sensitive names %s, which is not among terraform_vars',
      to_json(left(sensitive.name, 100)))
    from jsonb_array_elements_text(case jsonb_typeof(p_snapshot -> 'sensitive')
      when 'array' then p_snapshot -> 'sensitive' else '[]' end) as sensitive (name)
    where jsonb_typeof(p_snapshot -> 'terraform_vars') is distinct from 'object'
      or not jsonb_exists(p_snapshot -> 'terraform_vars', sensitive.name)
    union all
    select 13, format('.timeouts.%s must be a number of seconds above 0', timeout.name)
    from jsonb_each(case jsonb_typeof(p_snapshot -> 'timeouts')
      when 'object' then p_snapshot -> 'timeouts' else '{}' end) as timeout (name, value)
    where timeout.name in ('init_s', 'plan_s', 'apply_s', 'provision_s')
      and not case jsonb_typeof(timeout.value)
        when 'null' then true
        when 'number' then timeout.value::numeric > 0 and timeout.value::numeric < 1e9
        else false
      end
  ) as found
  order by found.position, found.fault limit 1
$$;
