select public.agent_heartbeat(
  p_cluster_id => %(cluster)s, p_token_hash => %(token_hash)s,
  p_agent => jsonb_build_object(
    'id', %(agent)s::text, 'hostname', 'bench', 'version', '1', 'state', 'ONLINE', 'capacity', 1,
    'leases', jsonb_build_array(jsonb_build_object(
      'provision_id', %(provision)s::text, 'attempt', 1, 'phase', 'APPLY'))))
