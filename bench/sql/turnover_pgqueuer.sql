with ended as (
  delete from pgqueuer where status = 'picked' returning id, entrypoint, priority, payload
), logged as (
  insert into pgqueuer_log (job_id, status, entrypoint, priority)
  select id, 'successful', entrypoint, priority from ended
)
insert into pgqueuer (priority, status, entrypoint, payload)
select priority, 'queued', entrypoint, payload from ended
