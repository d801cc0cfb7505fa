select public.insert_provision_logs(
  p_cluster_id => %(cluster)s, p_token_hash => %(token_hash)s, p_provision_id => %(provision)s,
  p_attempt => 1, p_agent_id => %(agent)s, p_first_seq => %(seq)s,
  p_chunks => jsonb_build_array(
    jsonb_build_object('s', 'STDOUT', 'o', %(offset)s::bigint, 't', %(text)s::text)))
