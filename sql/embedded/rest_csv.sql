(
  select coalesce(string_agg(key, ','), '')
  from (select json_object_keys(line) as key from (select row_to_json(p) as line from postgrest_page as p limit 1) as first) as header
) || E'\n' || coalesce(string_agg(substring(_postgrest_t::text, 2, length(_postgrest_t::text) - 2), E'\n'), '')
