-- The heartbeat of one cluster; its time comes back as the page will say it.
update clusters set last_heartbeat = clock_timestamp() where name = 'cluster ' || lpad(%(number)s::text, 4, '0')
