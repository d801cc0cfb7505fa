-- What the gateway must know of schema public to speak as PostgREST does: one row, one document.
-- Only functions whose arguments all have names can be called; variadic ones are left out.
select json_build_object(
  'tables', (
    select coalesce(json_object_agg(relname, columns), '{}')
    from pg_class
    cross join lateral (
      select coalesce(json_object_agg(attname, format_type(atttypid, atttypmod)), '{}') as columns
      from pg_attribute
      where attrelid = pg_class.oid and attnum > 0 and not attisdropped
    ) as described
    where relnamespace = 'public'::regnamespace
      and relkind in ('r', 'v', 'm', 'f', 'p')
      and not relispartition
  ),
  'functions', (
    select coalesce(json_agg(json_build_object(
      'name', proname,
      'arguments', arguments.list,
      'is_composite', typtype = 'c' or coalesce(proargmodes::text[] && '{t,b,o}', false),
      'is_set', proretset,
      'is_void', prorettype = 'void'::regtype,
      'is_read_only', provolatile <> 'v',
      'settings', hoisted.settings
    ) order by pg_proc.oid), '[]')
    from pg_proc
    join pg_type on pg_type.oid = prorettype
    cross join lateral (
      select coalesce(json_agg(json_build_object(
        'name', name,
        'type', type::regtype::text,
        'is_required', ordinal <= pronargs - pronargdefaults
      ) order by ordinal), '[]') as list,
      bool_and(coalesce(name, '') <> '') as all_named
      from unnest(proargnames, proargtypes, proargmodes) with ordinality as a (name, type, mode, ordinal)
      where type is not null
    ) as arguments
    cross join lateral (
      -- A function's own statement_timeout would start too late for the statement that calls it.
      select coalesce(json_agg(json_build_array(split_part(setting, '=', 1), split_part(setting, '=', 2))), '[]')
        as settings
      from unnest(proconfig) as setting
      where setting like 'statement_timeout=%'
    ) as hoisted
    where pronamespace = 'public'::regnamespace
      and prokind = 'f'
      and provariadic = 0
      and arguments.all_named is not false
  ),
  'roles', (
    select coalesce(json_object_agg(rolname, settings), '{}')
    from pg_roles
    cross join lateral (
      select json_agg(json_build_array(name, substr(entry, strpos(entry, '=') + 1))) as settings
      from unnest(rolconfig) as entry
      join pg_settings on name = split_part(entry, '=', 1) and context = 'user'
    ) as configured
    where settings is not null
  )
)
