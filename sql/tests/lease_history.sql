-- Writes down every lease that begins and ends, in the order in which it happens.
create table tests.lease_history (
  id bigint generated always as identity primary key,
  began boolean not null,
  provision_id uuid not null,
  cluster_id uuid not null,
  stack_key text not null,
  attempt int not null
);

create function tests.write_history() returns trigger language plpgsql security definer as $$
declare
  v_lease public.provision_leases := case tg_op when 'INSERT' then new else old end;
begin
  insert into tests.lease_history (began, provision_id, cluster_id, stack_key, attempt)
  values (tg_op = 'INSERT', v_lease.provision_id, v_lease.cluster_id, v_lease.stack_key,
    v_lease.attempt);
  return null;
end $$;

create trigger write_history after insert or delete on public.provision_leases
  for each row execute function tests.write_history();
