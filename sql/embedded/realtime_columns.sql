-- The columns of a table in their order, and whether a role may read them.
select
    a.attname as name,
    tn.nspname as type_schema,
    t.typname as type_name,
    coalesce(a.attnum = any (i.indkey), false) as is_key,
    has_column_privilege(%(role)s::name, c.oid, a.attnum, 'SELECT') as is_readable,
    c.relrowsecurity as has_policies
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_namespace tn on tn.oid = t.typnamespace
left join pg_index i on i.indrelid = c.oid and i.indisprimary
where c.oid = %(relation)s
order by a.attnum
