-- What a URL's parameters ask of one relation, in SQL, as PostgREST reads them; or why that is not
-- answered (refused). Names become quoted identifiers, values quoted literals whose type Postgres
-- infers; raw are only words of fixed lists, and a cast's type: letters, digits, spaces.
with asked as (
  select
    %(relation)s::text as relation,
    coalesce(max(value) filter (where key = 'select'), '*') as columns,
    coalesce(max(value) filter (where key = 'order'), '') as terms,
    -- What is no number is as good as absent.
    coalesce(max(value) filter (where key = 'limit' and value ~ '^[0-9]{1,18}$'), 'all') as rows,
    coalesce(max(value) filter (where key = 'offset' and value ~ '^[0-9]{1,18}$'), '0') as first
  from (select pair ->> 0, pair ->> 1 from json_array_elements(%(url)s::json) as pair) as given (key, value)
),
columns as (
  select
    item <> '*' and match is null as is_strange,
    case
      when item = '*' then format('%%I.*', relation)
      when match is null then null
      when match[3] is null then format('%%I.%%I', relation, match[2])
      else format('cast(%%I.%%I as %%s)', relation, match[2], match[3])
    end || coalesce(' as ' || quote_ident(match[1]), '') as text,
    position
  from asked,
    string_to_table(columns, ',') with ordinality as items (item, position),
    regexp_match(item, '^(?:([\w$]+):)?([\w$]+)(?:::(\w[\w ]*))?$') as match
),
terms as (
  select
    item !~ '^[\w$]+(\.|$)' as is_strange,
    case when match is null then substr(item, strpos(item, '.') + 1) end as rest,
    concat_ws(' ', quote_ident(relation) || '.' || quote_ident(match[1]), match[2], 'nulls ' || match[3]) as text,
    position
  from asked,
    string_to_table(nullif(terms, ''), ',') with ordinality as items (item, position),
    regexp_match(item, '^([\w$]+)(?:\.(asc|desc))?(?:\.nulls(first|last))?$') as match
),
operators (word, sign) as (
  values ('eq', '='), ('neq', '<>'), ('gt', '>'), ('gte', '>='), ('lt', '<'), ('lte', '<=')
),
parameters as (
  select
    key,
    value,
    split_part(value, '.', 1) as word,
    key !~ '^[\w$]+$' or key in ('and', 'or', 'columns', 'on_conflict') as is_strange,
    value ~ '^(not|i?like|i?match|w?fts|p[lh]fts|isdistinct|c[sd]|ov|s[lr]|nx[rl]|adj|\w+\(\w+\))\.' as is_elsewhere,
    quote_ident(relation) || '.' || quote_ident(key) || ' ' || case
      when sign is not null then format('%%s %%L', sign, substr(value, strpos(value, '.') + 1))
      when value ~* '^is\.(null|not_null|true|false|unknown)$' then replace(replace(value, '.', ' '), '_', ' ')
      when value ~ '^in\.\(.*\)$' then format('= any (%%L)', '{' || (
        -- An array quotes its elements as a list does; without quotes it would see more in them.
        select coalesce(string_agg(case when starts_with(element[1], '"') then element[1]
          else '"' || regexp_replace(element[1], '(["\\])', '\\\1', 'g') || '"' end, ','), '')
        from regexp_matches(substr(value, 5, length(value) - 5), '"(?:[^"\\]|\\.)*"|[^,]+', 'g') as element
      ) || '}')
    end as test
  from (select pair ->> 0, pair ->> 1 from json_array_elements(%(url)s::json) as pair) as given (key, value)
  cross join asked
  left join operators on word = split_part(value, '.', 1) and strpos(value, '.') > 0
  where key not in ('select', 'order', 'limit', 'offset', 'apikey')
),
arguments as (
  select key, value from parameters
  where %(has_arguments)s and not is_strange and not is_elsewhere and test is null
),
problems (feature, what, text, rest, wanted) as (
  select 'the parameter ' || key, null, null, null, null from parameters where is_strange
  union all
  select 'the operator ' || word, null, null, null, null from parameters where is_elsewhere
  union all
  select 'select=' || columns, null, null, null, null from asked where exists (select from columns where is_strange)
  union all
  select 'order=' || terms, null, null, null, null from asked where exists (select from terms where is_strange)
  union all
  select null, 'filter', value, value, '"not" or operator (eq, gt, ...)'
  from parameters where test is null and not %(has_arguments)s
  union all
  select null, 'order', asked.terms, rest, '"asc", "desc", "nullsfirst" or "nullslast"'
  from asked, terms where rest is not null
)
select
  (
    select case when feature is not null then json_build_object('feature', feature)
      else json_build_object(
        'status', 400,
        'code', 'PGRST100',
        'message', format('"failed to parse %%s (%%s)" (line 1, column %%s)', what, text, strpos(text, rest)),
        'details', format('unexpected %%s expecting %%s',
          coalesce('"' || nullif(left(rest, 1), '') || '"', 'end of input'), wanted)
      ) end
    from problems limit 1
  ) as refused,
  json_build_object(
    'columns', (select string_agg(text, ', ' order by position) from columns),
    'filter', (
      select coalesce('where ' || string_agg(test, ' and '), '')
      from parameters where test is not null
    ),
    'sort', (select coalesce('order by ' || string_agg(text, ', ' order by position), '') from terms),
    'rows', rows,
    'first', first,
    'is_counted', %(is_counted)s::text,
    'is_object', %(is_object)s::text
  ) as fragments,
  (select coalesce(json_object_agg(key, value), '{}') from arguments) as arguments
from asked
