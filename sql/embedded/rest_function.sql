-- The statement that calls the one function of schema public that is meant by these arguments; or why
-- there is none (refused). All arguments must have names; variadic functions cannot be called.
with asked as (
  select
    %(name)s::text as function, %(keys)s::text[] as keys, %(columns)s::text as columns,
    %(has_arguments)s::boolean as is_text
),
named as (
  select pg_proc.*, names, required, shown, types, assignments
  from asked
  join pg_proc on proname = function
  cross join lateral (
    select
      coalesce(array_agg(name), '{}') as names,
      coalesce(array_agg(name) filter (where position <= pronargs - pronargdefaults), '{}') as required,
      string_agg(name || ' => ' || type::regtype, ', ' order by position) as shown,
      -- The values of a URL are texts, those of a body whatever json makes of them.
      string_agg(format(', %%I %%s', name, case when is_text then 'text' else type::regtype::text end), '')
        filter (where name = any (keys)) as types,
      string_agg(format('%%1$I := pgrst_body.%%1$I::%%2$s', name, type::regtype), ', ')
        filter (where name = any (keys)) as assignments
    from unnest(proargnames, proargtypes) with ordinality as argument (name, type, position)
    where type is not null
  ) as arguments
  where pronamespace = 'public'::regnamespace
    and prokind = 'f'
    and provariadic = 0
    and array_position(names, null) is null
    and array_position(names, '') is null
),
fitting as (
  select named.* from named, asked where required <@ keys and keys <@ names
),
-- PostgREST measures how much names are alike; here one must begin with the other, or hold all keys.
near as (
  select min(meant) as meant
  from (
    select format('%%s(%%s)', proname, (select string_agg(name, ', ' order by name) from unnest(names) as name))
    from named, asked where keys <@ names and keys <> '{}'
    union all
    select proname from pg_proc, asked
    where pronamespace = 'public'::regnamespace and not exists (select from named)
      and (starts_with(proname, function) or starts_with(function, proname))
  ) as candidates (meant)
),
given as (
  select
    coalesce('(' || string_agg(key, ', ' order by key) || ')', ' without parameters') as shown,
    case count(*)
      when 0 then 'without parameters'
      when 1 then 'with parameter ' || min(key)
      else 'with parameters ' || string_agg(key, ', ' order by key)
    end as searched
  from asked, unnest(keys) as key
)
select
  case (select count(*) from fitting)
    when 1 then null
    when 0 then json_build_object(
      'status', 404,
      'code', 'PGRST202',
      'message', format('Could not find the function public.%%s%%s in the schema cache', function, given.shown),
      'details', format(
        'Searched for the function public.%%s %%s or with a single unnamed json/jsonb parameter, '
        'but no matches were found in the schema cache.', function, searched
      ),
      'hint', 'Perhaps you meant to call the function public.' || meant
    )
    else json_build_object(
      'status', 300,
      'code', 'PGRST203',
      'message', 'Could not choose the best candidate function between: '
        || (select string_agg(format('public.%%s(%%s)', proname, shown), ', ' order by oid) from fitting),
      'hint', 'Try renaming the parameters or the function itself in the database so function overloading '
        'can be resolved'
    )
  end as refused,
  json_build_object(
    'source', format(
      'pgrst_call as (select pgrst_call.* '
      'from json_to_record(current_setting(''request.body'')::json) as pgrst_body (pgrst_none text%%s), '
      'lateral public.%%I(%%s) as pgrst_call),',
      types, function, assignments
    ),
    'relation', 'pgrst_call',
    'columns', columns,
    'row', case
      when typtype = 'c' or proargmodes::text[] && '{t,b,o}' then 'pgrst_page' else 'pgrst_page.pgrst_call'
    end,
    'status', case when prorettype = 'void'::regtype then '204' else '200' end,
    'is_single', (not proretset)::text
  ) as fragments,
  prorettype <> 'void'::regtype as has_body,
  is_text or provolatile <> 'v' as is_read_only,
  -- A function's own statement_timeout would start too late for the statement that calls it.
  (
    select split_part(setting, '=', 2) from unnest(proconfig) as setting
    where setting like 'statement_timeout=%%'
  ) as timeout
from asked
cross join near
cross join given
left join (select * from fitting order by oid limit 1) as chosen on true
left join pg_type on pg_type.oid = prorettype
