-- Our claim, with a fresh claim id as agents send it.
select * from public.fetch_next_provision(
  p_cluster_id => %(cluster)s, p_token_hash => %(token_hash)s, p_agent_id => %(agent)s,
  p_claim_id => %(claim)s)
