-- What holds for one request, until its transaction ends; the role last.
select
  set_config('transaction_read_only', %(is_read_only)s::boolean::text, true) as read_only,
  set_config('search_path', 'public', true) as search_path,
  set_config('request.jwt.claims', %(claims)s, true) as claims,
  set_config('request.method', %(method)s, true) as method,
  set_config('request.path', %(path)s, true) as path,
  set_config('request.headers', %(headers)s, true) as headers,
  set_config('request.body', %(body)s, true) as body,  -- ours alone: the statement reads it
  set_config('statement_timeout', coalesce(
    %(timeout)s::text,
    (
      select split_part(setting, '=', 2)
      from pg_roles, unnest(rolconfig) as setting
      where rolname = %(role)s::text and setting like 'statement_timeout=%%'
    ),
    current_setting('statement_timeout')
  ), true) as timeout,
  set_config('role', %(role)s::text, true) as role
