-- The claim of every tutorial: one update of one row that nobody else has locked.
update public.provisions
set status = 'PROCESSING', attempt = attempt + 1, started_at = clock_timestamp()
where id = (
  select p.id from public.provisions p
  where p.cluster_id = %(cluster)s and p.status = 'QUEUED'
  order by p.seq limit 1
  for update skip locked)
returning *
