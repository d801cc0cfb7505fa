update provisions set status = 'PROCESSING', attempt = 1, started_at = now() where id = %(run)s
