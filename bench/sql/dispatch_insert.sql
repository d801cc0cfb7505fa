insert into public.provisions (cluster_id, config_snapshot)
values (%(cluster)s, %(snapshot)s)
returning id::text, xmin::text as insert_xid
