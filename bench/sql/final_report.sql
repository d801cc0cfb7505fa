select public.update_provision_status(
  p_cluster_id => %(cluster)s, p_token_hash => %(token_hash)s, p_provision_id => %(provision)s,
  p_status => 'SUCCESS', p_attempt => 1, p_agent_id => %(agent)s, p_log_chunks => %(chunks)s)
