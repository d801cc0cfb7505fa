-- A run that only is a row, begun: answers its id.
with made as (
  insert into provisions (cluster_id, config_snapshot)
  values (%(cluster)s, '{"template_source": {"repo": "https://example.com/r", "version": "v1"}}')
  returning id
)
select id::text from made
