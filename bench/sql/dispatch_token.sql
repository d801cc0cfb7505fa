select public.agent_realtime_token(%(cluster)s, %(token_hash)s) ->> 'token' as token
