-- A row in each table that exists by now and is empty: a database in use, for the next migration.
do $$
declare
  c_id constant uuid := 'c0000000-0000-4000-8000-00000000000f';
  v_row text[];
begin
  foreach v_row slice 1 in array array[
    ['tendril_private.jwt_secrets', '(secret) values (''s'')'],
    ['public.clusters', '(id, user_id, name) values (%1$L, %1$L, ''x'')'],
    ['public.cluster_tokens', '(cluster_id, verifier) values (%1$L, sha256(''x''))'],
    ['public.agents', '(cluster_id, id, state, last_seen) values (%1$L, %1$L, ''ONLINE'', now())'],
    ['public.audit_events', '(action, actor) values (''x'', ''system'')'],
    ['public.configurations', '(user_id, cluster_id, name, template_source)
      values (%1$L, %1$L, ''x'', ''{}'')'],
    ['public.provisions', '(id, cluster_id, config_snapshot) values (%1$L, %1$L, ''{}'')'],
    ['public.provision_leases', '(provision_id, cluster_id, stack_key, attempt, claim_id, expires_at)
      values (%1$L, %1$L, ''x'', 1, %1$L, now())'],
    ['tendril_private.lost_leases', '(provision_id, cluster_id, stack_key, attempt, claim_id)
      values (%1$L, %1$L, ''x'', 1, %1$L)'],
    ['public.provision_logs', '(provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
      values (%1$L, 1, 0, 0, ''STDOUT'', ''x'')']]
  loop
    if to_regclass(v_row[1]) is not null then
      execute format('insert into ' || v_row[1] || ' ' || v_row[2] || ' on conflict do nothing', c_id);
    end if;
  end loop;
end $$;
