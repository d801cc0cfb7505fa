-- The statement that reads a table of schema public, or inserts one row with these columns; or why there
-- is none (refused).
with asked as (
  select
    %(name)s::text as wanted, %(keys)s::text[] as keys, %(columns)s::text as columns,
    %(method)s = 'POST' as is_insert, %(is_full)s::boolean as is_full
),
tables as (
  select oid, relname
  from pg_class
  where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'm', 'f', 'p') and not relispartition
),
-- PostgREST measures how much names are alike; here one must begin with the other.
near as (
  select min(relname) as meant
  from tables, asked
  where starts_with(relname, wanted) or starts_with(wanted, relname)
),
unknown as (
  select min(key) as key
  from asked, unnest(keys) as key
  where key not in (
    select attname from tables join pg_attribute on attrelid = oid
    where relname = wanted and attnum > 0 and not attisdropped
  )
)
select
  case
    when not exists (select from tables where relname = wanted) then json_build_object(
      'status', 404,
      'code', 'PGRST205',
      'message', format('Could not find the table ''public.%%s'' in the schema cache', wanted),
      'hint', 'Perhaps you meant the table ''public.' || meant || ''''
    )
    when key is not null then json_build_object(
      'status', 400,
      'code', 'PGRST204',
      'message', format('Could not find the ''%%s'' column of ''%%s'' in the schema cache', key, wanted)
    )
    when is_insert and keys = '{}' then json_build_object('feature', 'inserting a row without columns')
  end as refused,
  case
    when is_insert then json_build_object(
      'source', format(
        '%%1$I as (insert into public.%%1$I (%%2$s) '
        'select %%2$s from json_populate_record(null::public.%%1$I, current_setting(''request.body'')::json) '
        'returning %%3$s),',
        wanted, listed, case when is_full then columns else '1' end
      ),
      'relation', format('%%I', wanted), 'columns', '*', 'status', '201',
      'row', 'pgrst_page', 'is_single', 'false'
    )
    else json_build_object(
      'source', '', 'relation', format('public.%%I', wanted), 'columns', columns, 'status', '200',
      'row', 'pgrst_page', 'is_single', 'false'
    )
  end as fragments,
  is_full or not is_insert as has_body,
  not is_insert as is_read_only
from asked
cross join near
cross join unknown
cross join (select string_agg(format('%%I', key), ', ') as listed from asked, unnest(keys) as key) as written
