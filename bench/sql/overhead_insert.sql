-- Every provision works on a stack of its own: all of them make the same things anew.
insert into public.provisions (cluster_id, stack_key, config_snapshot)
values (%(cluster)s, gen_random_uuid()::text, %(snapshot)s)
returning id::text
