-- One cluster's agent is refused the private channel, as by a project that offers no broadcasts.
alter policy tendril_agent_listens on realtime.messages
  using (extension = 'broadcast' and realtime.topic() = 'cluster:'
    || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'cluster_id')
    and realtime.topic() <> 'cluster:{cluster}')
