select seq, log_chunk from public.provision_logs
where provision_id = %(provision_id)s and seq > %(after)s order by seq
