-- Everything that docs/schema.md shows, in its order: a relation with its columns, policies and
-- triggers, then the functions of the schema (their owner is '').
with ours as (
  select oid, nspname::text as schema from pg_namespace where nspname in ('public', 'tendril_private')
), relations as (
  select c.oid, o.schema, c.relname::text as owner, c.relkind
  from pg_class c join ours o on o.oid = c.relnamespace where c.relkind in ('r', 'v')
), parts as (
  select r.schema, r.owner, 1 as place, 0 as position, 'relation' as kind, r.owner as name,
    '' as shape, obj_description(r.oid, 'pg_class') as comment
  from relations r
  union all
  select r.schema, r.owner, 2, a.attnum, 'column', a.attname::text,
    concat_ws(', ', format_type(a.atttypid, a.atttypmod),
      case when a.attnotnull then 'not null' end,
      case when a.attidentity <> '' then 'identity' end,
      'default ' || pg_get_expr(d.adbin, d.adrelid)),
    col_description(r.oid, a.attnum)
  from relations r join pg_attribute a on a.attrelid = r.oid
  left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select r.schema, r.owner, 3, 0, 'policy', p.polname::text,
    case p.polcmd when 'r' then 'select' when 'a' then 'insert' else p.polcmd::text end
      || ' to ' || array_to_string(array(select rolname from pg_roles where oid = any (p.polroles)), ', '),
    obj_description(p.oid, 'pg_policy')
  from relations r join pg_policy p on p.polrelid = r.oid
  union all
  select r.schema, r.owner, 4, 0, 'trigger', t.tgname::text,
    lower(substring(pg_get_triggerdef(t.oid) from '(?:BEFORE|AFTER) .+? ON ')) || 'it',
    obj_description(t.oid, 'pg_trigger')
  from relations r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
  union all
  select o.schema, '', 5, 0, 'function',
    format('%s(%s)', p.proname, pg_get_function_arguments(p.oid)),
    case when p.prosecdef then 'security definer, ' else '' end
      || case p.provolatile when 'v' then 'volatile' when 's' then 'stable' else 'immutable' end
      || ', returns ' || pg_get_function_result(p.oid),
    obj_description(p.oid, 'pg_proc')
  from pg_proc p join ours o on o.oid = p.pronamespace
)
select schema, owner, kind, name, shape, comment from parts
where not (schema = 'public' and owner = '' and kind <> 'function')
order by schema, (owner = ''), owner, place, position, name
