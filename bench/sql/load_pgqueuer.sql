insert into pgqueuer (priority, status, entrypoint, payload)
select 0, 'queued', 'queue ' || i %% %(queues)s, convert_to(%(snapshot)s, 'UTF8')
from generate_series(1, %(count)s) i
