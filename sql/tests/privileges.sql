-- Every privilege that a role of the API, or everybody, holds on what is ours: one line each.
with held as (
  select n.nspname::text as schema, '' as object, 'schema' as kind, a.grantee, a.privilege_type
  from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
  union all
  select n.nspname, c.relname::text, case c.relkind when 'S' then 'sequence' else 'relation' end,
    a.grantee, a.privilege_type
  from pg_class c join pg_namespace n on n.oid = c.relnamespace,
    aclexplode(coalesce(c.relacl,
      acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))) a
  where c.relkind in ('r', 'v', 'm', 'p', 'S', 'f')
  union all
  select n.nspname, c.relname, format('column %I', t.attname), a.grantee, a.privilege_type
  from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n
    on n.oid = c.relnamespace, aclexplode(t.attacl) a
  where not t.attisdropped
  union all
  select n.nspname, format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)),
    'function', a.grantee, a.privilege_type
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
)
select concat_ws(' ', coalesce(r.rolname, 'PUBLIC'), held.privilege_type, held.kind,
  held.schema || case when held.object <> '' then '.' else '' end || held.object) as privilege
from held left join pg_roles r on r.oid = held.grantee
where held.schema in ('public', 'tendril_private')
  and (held.grantee = 0
    or r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator'))
