-- On disk, with indexes: a provision of the past, and a log chunk per byte of its text.
select pg_total_relation_size('public.provisions')::float8
    / greatest((select count(*) from public.provisions), 1),
  pg_total_relation_size('public.provision_logs')::float8
    / greatest((select sum(octet_length(log_chunk)) from public.provision_logs), 1)
