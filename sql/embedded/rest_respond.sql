with {source} pgrst_page as (
  select {columns} from {relation} {filter} {sort} limit {rows} offset {first}
),
pgrst_answer as (
  select
    {status} as status,
    {first} as first,
    count(*) as rows,
    case when {is_counted} then (select count(*) from {relation} {filter}) end as total,
    case when {is_single} or {is_object} then coalesce(json_agg({row}) -> 0, 'null')
      else coalesce(json_agg({row}), '[]') end::text as body
  from pgrst_page
)
select
  case
    when {is_object} and not {is_single} and rows <> 1 then json_build_object(
      'status', 406,
      'code', 'PGRST116',
      'message', 'Cannot coerce the result to a single JSON object',
      'details', format('The result contains %s rows', rows)
    )
    when first > total then json_build_object(
      'status', 416,
      'code', 'PGRST103',
      'message', 'Requested range not satisfiable',
      'details', format('An offset of %s was requested, but there are only %s rows.', first, total)
    )
  end as refused,
  body,
  coalesce(
    nullif(current_setting('response.status', true), ''),
    case when status = 200 and rows < total then '206' else status::text end
  ) as status,
  -- The rows of an insert are not named.
  case when rows = 0 or status = 201 then '*' else format('%s-%s', first, first + rows - 1) end
    || '/' || coalesce(total::text, '*') as content_range,
  coalesce(nullif(current_setting('response.headers', true), ''), '[]') as headers
from pgrst_answer
