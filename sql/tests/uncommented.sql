-- What is ours and has no comment: nothing, if all is well.
with ours as (
  select oid, nspname from pg_namespace where nspname in ('public', 'tendril_private')
)
select format('%s.%s', n.nspname, c.relname)
from pg_class c join ours n on n.oid = c.relnamespace
where c.relkind in ('r', 'v') and obj_description(c.oid, 'pg_class') is null
union all
select format('%s.%s.%s', n.nspname, c.relname, a.attname)
from pg_attribute a join pg_class c on c.oid = a.attrelid join ours n on n.oid = c.relnamespace
where c.relkind in ('r', 'v') and a.attnum > 0 and not a.attisdropped
  and col_description(c.oid, a.attnum) is null
union all
select p.oid::regprocedure::text
from pg_proc p join ours n on n.oid = p.pronamespace
where obj_description(p.oid, 'pg_proc') is null
union all
select format('trigger %s on %s.%s', t.tgname, n.nspname, c.relname)
from pg_trigger t join pg_class c on c.oid = t.tgrelid join ours n on n.oid = c.relnamespace
where not t.tgisinternal and obj_description(t.oid, 'pg_trigger') is null
union all
select format('policy %s on %s.%s', p.polname, n.nspname, c.relname)
from pg_policy p join pg_class c on c.oid = p.polrelid join ours n on n.oid = c.relnamespace
where obj_description(p.oid, 'pg_policy') is null
order by 1
