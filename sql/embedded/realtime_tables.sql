-- The published tables that a subscription names; '*' stands for any.
select c.oid
from pg_publication_tables p
join pg_namespace n on n.nspname = p.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
where p.pubname = %(publication)s
    and %(schema)s::name in (p.schemaname, '*')
    and %(table)s::name in (p.tablename, '*')
order by c.oid
