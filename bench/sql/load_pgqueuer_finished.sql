-- PgQueuer keeps what is finished in its log.
insert into pgqueuer_log (job_id, status, priority, entrypoint, created)
select -i, 'successful', 0, 'queue 0', now() - interval '1 s' * (2000000 - i)
from generate_series(1, %(count)s) i
