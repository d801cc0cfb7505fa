with {source} postgrest_page as (select {columns} from {relation} {where} {order} {window})
select
  {total} as total,
  count(*) as rows,
  {body} as body,
  nullif(current_setting('response.status', true), '') as status,
  nullif(current_setting('response.headers', true), '') as headers
from postgrest_page as _postgrest_t
