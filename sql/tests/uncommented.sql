-- What is ours and has no comment: nothing, if all is well.
select format('%s.%s', n.nspname, c.relname)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'tendril_private') and c.relkind in ('r', 'v')
  and obj_description(c.oid, 'pg_class') is null
union all
select format('%s.%s.%s', n.nspname, c.relname, a.attname)
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'tendril_private') and c.relkind in ('r', 'v')
  and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
union all
select p.oid::regprocedure::text
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname in ('public', 'tendril_private') and obj_description(p.oid, 'pg_proc') is null
order by 1
