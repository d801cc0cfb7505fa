-- Of each provision the moment at which its first claim was committed, in Unix seconds.
select provision_id::text, min(extract(epoch from pg_xact_commit_timestamp(xmin)))::float8 as at
from public.audit_events
where action = 'provision_claimed' and cluster_id = %(cluster)s
group by provision_id
