insert into pgqueuer (priority, status, entrypoint) values (0, 'queued', %(entrypoint)s)
returning id::text
