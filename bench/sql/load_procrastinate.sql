insert into procrastinate_jobs (queue_name, task_name, args)
select 'queue ' || i %% %(queues)s, 'bench', %(snapshot)s::jsonb
from generate_series(1, %(count)s) i
