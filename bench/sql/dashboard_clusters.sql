-- Clusters of one owner, all beating.
insert into clusters (user_id, name, status, last_heartbeat)
select %(owner)s, 'cluster ' || lpad(i::text, 4, '0'), 'ONLINE', now() from generate_series(1, %(count)s) i
