-- Procrastinate keeps what is finished beside what is queued.
insert into procrastinate_jobs (queue_name, task_name, args, status, attempts)
select 'queue 0', 'bench', %(snapshot)s::jsonb, 'succeeded', 1 from generate_series(1, %(count)s) i
