-- What PostgREST sends after BEGIN: who asks, for this transaction only.
select set_config('search_path', '"public", "extensions"', true), set_config('role', %(role)s, true),
  set_config('request.jwt.claims', '{"role":"anon"}', true),
  set_config('request.method', 'POST', true),
  set_config('request.path', '/rpc/fetch_next_provision', true),
  set_config('request.headers', '{"content-type":"application/json","x-agent-token":"0123456789ab",'
    '"x-cluster-id":"c0000000-0000-4000-8000-000000000001"}', true),
  set_config('request.cookies', '{}', true)
