select public.update_provision_status(%(cluster)s, %(token_hash)s, %(provision)s, 'SUCCESS',
  p_attempt => %(attempt)s, p_agent_id => %(agent)s, p_log_chunks => 0)
