-- What Realtime announces. Leases and tokens are left out: they are rewritten all the time, or secret.

do $$
declare
  v_table regclass;
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if exists (select from pg_publication where pubname = 'supabase_realtime' and puballtables) then
    return;
  end if;
  foreach v_table in array
    array['public.clusters', 'public.provisions', 'public.provision_logs']::regclass[]
  loop
    if not exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
        where p.pubname = 'supabase_realtime' and r.prrelid = v_table) then
      execute format('alter publication supabase_realtime add table %s', v_table);
    end if;
  end loop;
end $$;
