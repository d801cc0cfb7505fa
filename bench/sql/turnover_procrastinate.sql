with ended as (
  update procrastinate_jobs set status = 'succeeded', attempts = attempts + 1
  where status = 'doing' and worker_id is not null
  returning queue_name, task_name, args
)
insert into procrastinate_jobs (queue_name, task_name, args)
select queue_name, task_name, args from ended
