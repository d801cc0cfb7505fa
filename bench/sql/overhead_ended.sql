-- A provision that has ended: the moments at which its claim and its end were committed, in Unix
-- seconds, when each row of its log was, and what the agent says of its steps.
select p.status, p.error_message, p.execution_metadata -> 'steps' as steps,
  (select extract(epoch from pg_xact_commit_timestamp(e.xmin))::float8 from public.audit_events e
    where e.provision_id = p.id and e.action = 'provision_claimed') as claimed_at,
  (select extract(epoch from pg_xact_commit_timestamp(e.xmin))::float8 from public.audit_events e
    where e.provision_id = p.id and e.action = 'provision_ended') as ended_at,
  (select max(extract(epoch from pg_xact_commit_timestamp(l.xmin)))::float8
    from public.provision_logs l where l.provision_id = p.id) as logged_at
from public.provisions p
where p.id = %(provision)s and p.completed_at is not null
