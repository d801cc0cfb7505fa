select id::text, attempt from public.fetch_next_provision(
  %(cluster)s, %(token_hash)s, %(agent)s, gen_random_uuid())
