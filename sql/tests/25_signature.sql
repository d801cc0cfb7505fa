-- scenario: kept as it was given, and only where it was given
do $$
declare
  v_provision public.provisions;
begin
  perform tests.as_owner(tests.alice()::text);
  v_provision := public.create_provision(
    tests.cluster(), tests.snapshot(), p_signature => 'v1.0.AAAA');
  assert v_provision.signature = 'v1.0.AAAA';
  v_provision := public.create_provision(tests.cluster(), tests.snapshot());
  assert v_provision.signature is null;
end $$;

-- scenario: what cannot be a signature is refused
do $$
begin
  perform tests.as_owner(tests.alice()::text);
  perform tests.refused('PT422', 'select public.create_provision(tests.cluster(), tests.snapshot(), '
    'p_signature => repeat(''x'', 513))');
end $$;
