-- The schema after all of sql/migrations, to read and to compare. Not a source, never applied.
-- Made by the pg_dump of the embedded Postgres 18: python -m tests.integration.render_schema

CREATE SCHEMA tendril_private;

COMMENT ON SCHEMA tendril_private IS 'Helpers and secrets of the control plane; not exposed by the API.';

CREATE FUNCTION public.agent_heartbeat(p_cluster_id uuid, p_token_hash text, p_agent jsonb DEFAULT NULL::jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_agent jsonb := nullif(p_agent, 'null');
  v_agent_id uuid;
  v_listed jsonb;
  v_leases jsonb := '[]';
  v_taken_up boolean;
  v_sweeps boolean;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  update public.clusters c set status = 'ONLINE', last_heartbeat = clock_timestamp()
    where c.id = p_cluster_id and c.status <> 'ONLINE';
  if found then
    perform tendril_private.audit('cluster_online', p_cluster_id);
  else
    update public.clusters c set last_heartbeat = clock_timestamp()
      from tendril_private.settings s
      where s.one_row and c.id = p_cluster_id
        and c.last_heartbeat < clock_timestamp() - s.beat_coalescing;
  end if;
  -- After the cluster's row, as in rotate_cluster_token.
  update public.cluster_tokens t set last_used_at = now()
    where t.cluster_id = p_cluster_id and t.verifier = tendril_private.verifier_of(p_token_hash)
      and (t.last_used_at is null or t.last_used_at < now() - interval '1 min');

  if v_agent is null then
    perform from public.provision_leases l
      where l.cluster_id = p_cluster_id and l.agent_id is null
      order by l.provision_id for update;
    update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl
      from tendril_private.settings s
      where s.one_row and l.cluster_id = p_cluster_id and l.agent_id is null;
  else
    perform tendril_private.check_agent(v_agent);
    perform tendril_private.register_agent(p_cluster_id, v_agent);
    v_agent_id := (v_agent ->> 'id')::uuid;
    v_listed := coalesce(v_agent -> 'leases', '[]');
    v_leases := tendril_private.renew_leases(p_cluster_id, v_agent_id, v_listed);
  end if;

  -- Given up in APPLY, perhaps this moment, while we waited for the lease? It is heard again.
  select bool_or(tendril_private.take_up_lease(lost.provision_id)) into v_taken_up from (
      select l.provision_id from tendril_private.lost_leases l
      where l.cluster_id = p_cluster_id and l.agent_id is not distinct from v_agent_id
        and (v_agent is null or exists (
          select from jsonb_array_elements(v_listed) as x (item)
          where (x.item ->> 'provision_id')::uuid = l.provision_id
            and (x.item ->> 'attempt')::int = l.attempt))
      order by l.provision_id) lost;
  if v_taken_up and v_agent is not null then
    v_leases := tendril_private.renew_leases(p_cluster_id, v_agent_id, v_listed);
  end if;

  v_sweeps := tendril_private.hear_agent();
  perform tendril_private.reap_cluster(p_cluster_id);
  if v_sweeps then
    perform tendril_private.sweep();
  end if;
  return (select jsonb_build_object(
      'leases', v_leases,
      'drain', c.drain,
      'server_time', clock_timestamp(),
      'lease_ttl_s', trim_scale(extract(epoch from s.lease_ttl)))
    from tendril_private.settings s cross join public.clusters c
    where s.one_row and c.id = p_cluster_id);
end $$;

COMMENT ON FUNCTION public.agent_heartbeat(p_cluster_id uuid, p_token_hash text, p_agent jsonb) IS 'For agents, every 30 s: the cluster is ONLINE, the agent registered; the listed leases live on, or are taken up again; then silent agents are reaped. p_agent: {id, hostname, version, state: ONLINE|DRAINING, capacity, leases: [{provision_id, attempt, phase}]}; without it all leases of the cluster that were claimed without an agent id are renewed. Answers {leases: [{provision_id, attempt, held, cancel: none|graceful|force}], drain, server_time, lease_ttl_s}. held = false: superseded, stop.';

CREATE FUNCTION public.agent_realtime_token(p_cluster_id uuid, p_token_hash text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  c_lifetime_s constant int := 3600;
  v_now bigint := floor(extract(epoch from clock_timestamp()));
  v_secret text;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  select s.secret into v_secret from tendril_private.jwt_secrets s where s.one_row;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'token', tendril_private.sign_jwt(
      jsonb_build_object(
        'role', 'anon',
        'cluster_id', p_cluster_id,
        'iat', v_now,
        'exp', v_now + c_lifetime_s),
      v_secret),
    'expires_at', to_timestamp(v_now + c_lifetime_s),
    'expires_in_s', c_lifetime_s);
end $$;

COMMENT ON FUNCTION public.agent_realtime_token(p_cluster_id uuid, p_token_hash text) IS 'For agents: a JWT of role anon for the policy agent_listens, good for an hour. Answers {token, expires_at, expires_in_s}, or null where no secret is configured (tendril_private.set_jwt_secret).';

CREATE FUNCTION public.cancel_provision(p_provision_id uuid, p_force boolean DEFAULT false) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_user uuid := tendril_private.caller();
  v_before public.provisions;
  v_after public.provisions;
begin
  select p.* into v_before
  from public.provisions p join public.clusters c on c.id = p.cluster_id
  where p.id = p_provision_id and c.user_id = v_user
  for no key update of p;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  v_after := v_before;
  if v_before.status in ('QUEUED', 'PROCESSING') then
    update public.provisions p set
      cancel_requested_at = coalesce(p.cancel_requested_at, clock_timestamp()),
      force_cancel_requested_at = case when coalesce(p_force, false)
        then coalesce(p.force_cancel_requested_at, clock_timestamp())
        else p.force_cancel_requested_at end,
      status = case p.status when 'QUEUED' then 'CANCELLED' else p.status end,
      completed_at = case p.status when 'QUEUED' then clock_timestamp() end
    where p.id = p_provision_id
    returning p.* into v_after;
  end if;
  if v_after is distinct from v_before then
    perform tendril_private.audit('cancel_requested', v_after.cluster_id, p_provision_id,
      jsonb_build_object('force', v_after.force_cancel_requested_at is not null));
  end if;
  return jsonb_build_object(
    'status', v_after.status,
    'changed', v_after is distinct from v_before,
    'cancel', tendril_private.cancel_level(
      v_after.cancel_requested_at, v_after.force_cancel_requested_at));
end $$;

COMMENT ON FUNCTION public.cancel_provision(p_provision_id uuid, p_force boolean) IS 'For owners: a queued provision is CANCELLED at once, a running one is told to stop, an ended one stays as it is. Answers {status, changed, cancel: none|graceful|force}.';

CREATE TABLE public.provisions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    seq bigint NOT NULL,
    cluster_id uuid NOT NULL,
    configuration_id uuid,
    operation text DEFAULT 'APPLY'::text NOT NULL,
    stack_key text NOT NULL,
    config_snapshot jsonb NOT NULL,
    configuration_hash text,
    status text DEFAULT 'QUEUED'::text NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 3 NOT NULL,
    not_before timestamp with time zone DEFAULT now() NOT NULL,
    claimed_by uuid,
    cancel_requested_at timestamp with time zone,
    force_cancel_requested_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    error_message text,
    error_code text,
    execution_metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    logs_pruned_at timestamp with time zone,
    signature text,
    CONSTRAINT provisions_attempt_check CHECK ((attempt >= 0)),
    CONSTRAINT provisions_check CHECK (((completed_at IS NOT NULL) = (status = ANY (ARRAY['SUCCESS'::text, 'FAILED'::text, 'CANCELLED'::text])))),
    CONSTRAINT provisions_check1 CHECK (((status <> 'PROCESSING'::text) OR ((attempt > 0) AND (started_at IS NOT NULL)))),
    CONSTRAINT provisions_error_code_check CHECK ((length(error_code) <= 100)),
    CONSTRAINT provisions_error_message_check CHECK ((length(error_message) <= 8192)),
    CONSTRAINT provisions_max_attempts_check CHECK (((max_attempts >= 1) AND (max_attempts <= 20))),
    CONSTRAINT provisions_operation_check CHECK ((operation = ANY (ARRAY['APPLY'::text, 'PLAN'::text, 'DESTROY'::text]))),
    CONSTRAINT provisions_signature_check CHECK ((length(signature) <= 512)),
    CONSTRAINT provisions_status_check CHECK ((status = ANY (ARRAY['QUEUED'::text, 'PROCESSING'::text, 'SUCCESS'::text, 'FAILED'::text, 'CANCELLED'::text])))
)
WITH (fillfactor='85', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_threshold='500', autovacuum_analyze_scale_factor='0.02', autovacuum_analyze_threshold='250', vacuum_index_cleanup='on');

COMMENT ON TABLE public.provisions IS 'Requested units of work. Owners read their own and may insert what they ask for (see prepare_provision); status moves only through functions.';

COMMENT ON COLUMN public.provisions.id IS 'Names the provision everywhere.';

COMMENT ON COLUMN public.provisions.seq IS 'Order of submission; claims follow it.';

COMMENT ON COLUMN public.provisions.cluster_id IS 'Where it runs.';

COMMENT ON COLUMN public.provisions.configuration_id IS 'The configuration it was made from, if any; one of the same owner''s (validate_request). No foreign key: history outlives the configuration, and its id still names the stack.';

COMMENT ON COLUMN public.provisions.operation IS 'APPLY, PLAN or DESTROY.';

COMMENT ON COLUMN public.provisions.stack_key IS 'Names the Terraform state: two provisions of one stack never run at once, nor out of order. Default: configuration_id, else cluster, repository and path.';

COMMENT ON COLUMN public.provisions.config_snapshot IS 'The desired state, frozen at submission. Its shape is checked then, and again by the agent.';

COMMENT ON COLUMN public.provisions.configuration_hash IS 'sha256 (hex) of the snapshot''s RFC 8785 form, made by the submitter, never by the database: a hash that is computed here would protect nothing.';

COMMENT ON COLUMN public.provisions.status IS 'QUEUED, PROCESSING, then SUCCESS, FAILED or CANCELLED for good.';

COMMENT ON COLUMN public.provisions.attempt IS 'Number of claims so far; together with claimed_by the fencing token of the current attempt.';

COMMENT ON COLUMN public.provisions.max_attempts IS 'Attempts allowed. Only attempts lost before APPLY are repeated at all.';

COMMENT ON COLUMN public.provisions.not_before IS 'Not claimed before then (backoff).';

COMMENT ON COLUMN public.provisions.claimed_by IS 'Agent of the current attempt, kept after its end: it may still deliver logs. Null: not claimed, or claimed by a client that sends no agent id.';

COMMENT ON COLUMN public.provisions.cancel_requested_at IS 'When cancellation was first asked for.';

COMMENT ON COLUMN public.provisions.force_cancel_requested_at IS 'When forced cancellation was first asked for.';

COMMENT ON COLUMN public.provisions.created_at IS 'When it was submitted.';

COMMENT ON COLUMN public.provisions.started_at IS 'When the current attempt was claimed.';

COMMENT ON COLUMN public.provisions.completed_at IS 'When it reached its terminal status.';

COMMENT ON COLUMN public.provisions.error_message IS 'For people: what failed and how to mend it; at most 8192 characters.';

COMMENT ON COLUMN public.provisions.error_code IS 'For programs: a stable upper-case word.';

COMMENT ON COLUMN public.provisions.execution_metadata IS 'What the agent reports beside the outcome: commit, plan summary, cost, timings. late_result: an outcome that came when it could no longer become the status.';

COMMENT ON COLUMN public.provisions.logs_pruned_at IS 'When prune_logs deleted its logs; nothing more is taken in then.';

COMMENT ON COLUMN public.provisions.signature IS 'The submitter''s Ed25519 signature over cluster, operation, stack and snapshot, with the time until which it holds (docs/signing.md). Null: not signed. Verified by agents that are given trusted keys.';

CREATE FUNCTION public.create_provision(p_cluster_id uuid DEFAULT NULL::uuid, p_config_snapshot jsonb DEFAULT NULL::jsonb, p_configuration_hash text DEFAULT NULL::text, p_operation text DEFAULT 'APPLY'::text, p_configuration_id uuid DEFAULT NULL::uuid, p_signature text DEFAULT NULL::text) RETURNS SETOF public.provisions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_user uuid := tendril_private.caller();
  v_configuration public.configurations;
  v_cluster_id uuid := p_cluster_id;
  v_snapshot jsonb := nullif(p_config_snapshot, 'null');
begin
  if p_configuration_id is not null then
    select g.* into v_configuration from public.configurations g
      where g.id = p_configuration_id and g.user_id = v_user;
    if not found then
      raise exception using errcode = 'PT404', message = 'no such configuration';
    end if;
    v_cluster_id := coalesce(v_cluster_id, v_configuration.cluster_id);
    v_snapshot := coalesce(v_snapshot, tendril_private.snapshot_of(v_configuration));
  end if;
  perform from public.clusters c where c.id = v_cluster_id and c.user_id = v_user;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return query
    insert into public.provisions
      (cluster_id, configuration_id, operation, config_snapshot, configuration_hash, signature)
    values
      (v_cluster_id, p_configuration_id, p_operation, v_snapshot, p_configuration_hash, p_signature)
    returning *;
end $$;

COMMENT ON FUNCTION public.create_provision(p_cluster_id uuid, p_config_snapshot jsonb, p_configuration_hash text, p_operation text, p_configuration_id uuid, p_signature text) IS 'For owners: queue a provision of a snapshot, of a configuration as it was saved last, or of a snapshot that was made from a configuration. Answers its row. PT422 names a malformed field in its details.';

CREATE FUNCTION public.fetch_next_provision(p_cluster_id uuid, p_token_hash text, p_agent_id uuid DEFAULT NULL::uuid, p_claim_id uuid DEFAULT NULL::uuid) RETURNS SETOF public.provisions
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_sort TO 'off'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  v_first int;
  v_slot int;
  v_id uuid;
  v_stack_key text;
  v_attempt int;
  v_has_reaped boolean := false;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_claim_id is not null then
    perform pg_advisory_xact_lock(tendril_private.claim_key(p_claim_id));
  end if;
  -- Each statement below is a later one, so that it sees the options that we may have waited for.
  perform pg_advisory_xact_lock_shared(tendril_private.gate_key(p_cluster_id));

  loop
    -- The first free slot from a random one on: claimers rarely want the same. That it is free is
    -- enough only if no lease is beyond the limit; such a lease would be the last of the index, where
    -- null is the very last.
    v_first := (random() * 1000)::int;
    select room.slot into v_slot
    from public.clusters c cross join lateral (
      select 1 + (v_first + generate_series(1, c.max_concurrency)) % c.max_concurrency as slot) room
    where c.id = p_cluster_id and not c.drain
      and c.max_concurrency >= tendril_private.side_by_side_from()
      and coalesce(c.max_concurrency >= (
        select coalesce(l.slot, c.max_concurrency + 1) from public.provision_leases l
        where l.cluster_id = p_cluster_id order by l.slot desc limit 1), true)
      and not exists (
        select from public.provision_leases l
        where l.cluster_id = p_cluster_id and l.slot = room.slot offset 0)
    limit 1;
    if not found then
      v_slot := tendril_private.slot_in_turn(p_cluster_id);
    end if;

    -- OFFSET 0 keeps the two checks probes of an index, one per candidate: as joins they might read
    -- the leases of every cluster. The outer one passes over what another claimer is about to take. It
    -- locks no row: that would also hold a row which was claimed since this statement began, and whose
    -- agent may be reporting, while we wait for that agent's slot below.
    v_id := null;
    if v_slot is not null then
      select next.id, next.stack_key, next.attempt + 1 into v_id, v_stack_key, v_attempt
      from (
        select p.id, p.stack_key, p.attempt from public.provisions p
        where p.cluster_id = p_cluster_id and p.status = 'QUEUED'
          and p.not_before <= clock_timestamp()
          and not exists (
            select from public.provision_leases l where l.stack_key = p.stack_key offset 0)
          -- An earlier provision of the stack may be waiting for its next attempt, or be another
          -- claimer's this moment: a later one must not overtake it, or the older configuration would
          -- be applied over the newer one.
          and not exists (
            select from public.provisions earlier
            where earlier.cluster_id = p_cluster_id and earlier.stack_key = p.stack_key
              and earlier.status = 'QUEUED' and earlier.seq < p.seq offset 0)
        order by p.seq offset 0) next
      where pg_try_advisory_xact_lock(tendril_private.provision_key(next.id))
      limit 1;
    end if;
    if v_id is not null then
      -- Still as it was seen, now that no other claimer can take it?
      insert into public.provision_leases (provision_id, cluster_id, stack_key, attempt, agent_id,
          claim_id, slot, phase, expires_at)
        select v_id, p_cluster_id, v_stack_key, v_attempt, p_agent_id,
          coalesce(p_claim_id, gen_random_uuid()), v_slot,
          -- A client without an agent id reports no phases: it may be applying at any moment.
          case when p_agent_id is null then 'APPLY' else 'PREPARE' end,
          clock_timestamp() + s.lease_ttl
        from tendril_private.settings s cross join public.provisions p
        where s.one_row and p.id = v_id and p.status = 'QUEUED' and p.attempt = v_attempt - 1
        on conflict do nothing;
      if found then
        return query update public.provisions p
          set status = 'PROCESSING', attempt = v_attempt, claimed_by = p_agent_id,
            started_at = clock_timestamp()
          where p.id = v_id and p.status = 'QUEUED'
          returning p.*;
        exit when found;
        delete from public.provision_leases l where l.provision_id = v_id;  -- cancelled this moment
      end if;
    end if;

    -- No lease. The claim may have one already, from its first sending.
    if p_claim_id is not null then
      return query select * from tendril_private.replay_claim(p_cluster_id, p_agent_id, p_claim_id);
      if found then
        return;
      end if;
      perform from public.provision_leases l where l.claim_id = p_claim_id;
      if found then
        return;  -- somebody else's claim
      end if;
    end if;
    -- Or what was seen was taken this moment: the provision, the slot, or the stack, by another cluster
    -- or by an attempt thought lost; then look again. Or there is nothing, unless a dead agent has it.
    if v_id is null then
      if v_has_reaped then
        return;
      end if;
      perform from tendril_private.dead_leases d where d.cluster_id = p_cluster_id limit 1;
      if not found then
        return;
      end if;
      perform tendril_private.hear_agent();  -- a claim is a sign of life, too
      perform tendril_private.reap_cluster(p_cluster_id);
      v_has_reaped := true;
    end if;
  end loop;

  -- From here on an attempt of this stack that was given up in APPLY cannot be taken up again.
  delete from tendril_private.lost_leases l where l.stack_key = v_stack_key;
  perform tendril_private.audit('provision_claimed', p_cluster_id, v_id,
    jsonb_build_object('attempt', v_attempt), p_agent_id);
end $$;

COMMENT ON FUNCTION public.fetch_next_provision(p_cluster_id uuid, p_token_hash text, p_agent_id uuid, p_claim_id uuid) IS 'For agents: claim the next provision of the cluster, in order of submission; at most max_concurrency at once and one per stack. Where max_concurrency is 32 or more, claims at the same moment may overtake each other, but never within a stack. Answers its row, PROCESSING under a fresh lease, or none. Repeat with the same p_claim_id when the answer was lost.';

CREATE FUNCTION public.insert_provision_log(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_log_chunk text, p_stream_type text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_attempt int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if p_log_chunk is null or octet_length(p_log_chunk) > 65536
      or coalesce(upper(p_stream_type), '') not in ('STDOUT', 'STDERR', 'SYSTEM') then
    raise exception using errcode = 'PT422',
      message = 'a chunk is text of at most 64 KiB with a stream type',
      hint = 'p_stream_type is STDOUT, STDERR or SYSTEM';
  end if;
  select case when p.claimed_by is null and p.logs_pruned_at is null then p.attempt else 0 end
    into v_attempt
    from public.provisions p where p.id = p_provision_id and p.cluster_id = p_cluster_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  if v_attempt = 0 then
    raise exception using errcode = 'PT409', message = 'the attempt is not the caller''s',
      hint = 'an agent with an id calls insert_provision_logs';
  end if;
  perform tendril_private.lock_log(p_provision_id, v_attempt);
  insert into public.provision_logs
      (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
    select p_provision_id, v_attempt, e.next_seq, e.next_offset, upper(p_stream_type), p_log_chunk
    from tendril_private.log_end(p_provision_id, v_attempt) e;
end $$;

COMMENT ON FUNCTION public.insert_provision_log(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_log_chunk text, p_stream_type text) IS 'For clients that claim without an agent id: append one chunk; its number is given here.';

CREATE FUNCTION public.insert_provision_logs(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_attempt integer, p_agent_id uuid, p_first_seq integer, p_chunks jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  v_provision public.provisions;
  v_next_seq int;
  v_offset bigint;
  v_last_seq bigint;
  v_misplaced bigint;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  perform tendril_private.check_chunks(p_first_seq, p_chunks);
  select p.* into v_provision from public.provisions p
    where p.id = p_provision_id and p.cluster_id = p_cluster_id;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  if v_provision.logs_pruned_at is not null then
    raise exception using errcode = 'PT409', message = 'the logs of the provision were pruned';
  end if;
  -- Authorship, not a live lease: whoever wrote the attempt delivers, also after its end.
  if v_provision.attempt = 0 or p_attempt is distinct from v_provision.attempt
      or v_provision.claimed_by is distinct from p_agent_id then
    raise exception using errcode = 'PT409', message = 'the attempt is not the caller''s, or not the '
      'newest';
  end if;

  perform tendril_private.lock_log(p_provision_id, p_attempt);
  select e.next_seq, e.next_offset into v_next_seq, v_offset
    from tendril_private.log_end(p_provision_id, p_attempt) e;
  if p_first_seq <= v_next_seq then
    with fresh as (
      select p_first_seq + x.position - 1 as seq, x.chunk,
        v_offset + coalesce(sum(octet_length(x.chunk ->> 't')) over (order by x.position
          rows between unbounded preceding and 1 preceding), 0) as byte_offset
      from jsonb_array_elements(p_chunks) with ordinality as x (chunk, position)
      where p_first_seq + x.position - 1 >= v_next_seq
    ), stored as (
      insert into public.provision_logs
        (provision_id, attempt, seq, byte_offset, stream_type, log_chunk)
      select p_provision_id, p_attempt, f.seq, f.byte_offset, f.chunk ->> 's', f.chunk ->> 't'
      from fresh f order by f.seq
    )
    select max(f.seq), min(f.seq) filter (where (f.chunk ->> 'o')::numeric <> f.byte_offset)
      into v_last_seq, v_misplaced from fresh f;
    if v_misplaced is not null then  -- raising takes the insert back
      raise exception using errcode = 'PT422', message = 'a chunk''s byte offset does not add up',
        detail = format('seq=%s', v_misplaced),
        hint = 'o is the number of UTF-8 bytes in all earlier chunks of the attempt';
    end if;
  end if;
  return jsonb_build_object(
    'next_seq', coalesce(v_last_seq + 1, v_next_seq),
    'accepted', p_first_seq <= v_next_seq,
    'cancel', tendril_private.cancel_level(
      v_provision.cancel_requested_at, v_provision.force_cancel_requested_at));
end $$;

COMMENT ON FUNCTION public.insert_provision_logs(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_attempt integer, p_agent_id uuid, p_first_seq integer, p_chunks jsonb) IS 'For agents: store consecutive chunks of an attempt from p_first_seq on; those already stored are skipped. p_chunks: [{s: stream, o: byte offset, t: text}]. Answers {next_seq, accepted, cancel}; accepted = false: a gap, go back to next_seq. PT409: the attempt is superseded or not the caller''s.';

CREATE FUNCTION public.mark_offline_clusters(p_at_most integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  return tendril_private.mark_offline(p_at_most);
end $$;

COMMENT ON FUNCTION public.mark_offline_clusters(p_at_most integer) IS 'For a scheduler: mark clusters and agents OFFLINE that were not heard for settings.offline_after, at most so many. Answers how many clusters.';

CREATE FUNCTION public.prune_logs(p_older_than interval, p_at_most integer DEFAULT 1000) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  -- Read once: compared with a clock that ticks meanwhile, no index would be of use.
  v_before timestamptz := clock_timestamp() - p_older_than;
  v_ids uuid[];
  v_chunks bigint;
begin
  if p_older_than is null or p_older_than < '0' then
    raise exception using errcode = 'PT422', message = 'p_older_than is an interval, not negative';
  end if;
  with ended as (
    select p.id from public.provisions p
    where p.completed_at < v_before and p.logs_pruned_at is null
    order by p.completed_at limit p_at_most for no key update of p skip locked
  ), marked as (
    update public.provisions p set logs_pruned_at = clock_timestamp()
    from ended where p.id = ended.id returning p.id
  )
  select coalesce(array_agg(m.id), '{}') into v_ids from marked m;
  delete from tendril_private.lost_leases l where l.provision_id = any (v_ids);
  delete from public.provision_logs l where l.provision_id = any (v_ids);
  get diagnostics v_chunks = row_count;
  if v_ids <> '{}' then
    perform tendril_private.audit('logs_pruned', p_detail => jsonb_build_object(
      'provisions', cardinality(v_ids), 'chunks', v_chunks, 'older_than', p_older_than));
  end if;
  return jsonb_build_object('provisions', cardinality(v_ids), 'chunks', v_chunks);
end $$;

COMMENT ON FUNCTION public.prune_logs(p_older_than interval, p_at_most integer) IS 'For a scheduler: delete the logs of provisions that ended so long ago, the oldest first and at most of so many; whoever wrote them can deliver no more. Answers {provisions, chunks}: repeat until provisions is 0.';

CREATE FUNCTION public.queue_depth(p_cluster_id uuid DEFAULT NULL::uuid) RETURNS TABLE(cluster_id uuid, queued bigint, ready bigint, running bigint, max_concurrency integer, oldest_queued_at timestamp with time zone)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
  select c.id, waiting.queued, waiting.ready, active.running, c.max_concurrency,
    waiting.oldest_queued_at
  from public.clusters c
  cross join lateral (
    select count(*) as queued, count(*) filter (where p.not_before <= clock_timestamp()) as ready,
      min(p.created_at) as oldest_queued_at
    from public.provisions p where p.cluster_id = c.id and p.status = 'QUEUED') waiting
  cross join lateral (
    select count(*) as running from public.provision_leases l where l.cluster_id = c.id) active
  where p_cluster_id is null or c.id = p_cluster_id
$$;

COMMENT ON FUNCTION public.queue_depth(p_cluster_id uuid) IS 'For owners and autoscalers: of one cluster or of all that the caller sees, how many provisions are queued, how many of these are not waiting for a next attempt, how many run, and since when the oldest waits.';

CREATE FUNCTION public.reap_leases(p_at_most integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  -- A scheduler runs in the database, so it does not tell an outage of what stands in front of it
  -- from the silence of every agent there is, unless that lasts.
  perform from tendril_private.sweeps w cross join tendril_private.settings s
    where w.paused_until <= clock_timestamp() and (w.swept_at > clock_timestamp() - s.outage_after
      or w.swept_at < clock_timestamp() - s.lost_after);
  if not found then
    return 0;
  end if;
  return (select count(*) filter (where tendril_private.reap_lease(dead.provision_id))
    from (select d.provision_id from tendril_private.dead_leases d limit p_at_most) dead);
end $$;

COMMENT ON FUNCTION public.reap_leases(p_at_most integer) IS 'For a scheduler: give up the attempts of dead agents of any cluster, at most so many. Answers how many it gave up.';

CREATE FUNCTION public.register_cluster(p_name text, p_max_concurrency integer DEFAULT 1) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_user uuid := tendril_private.caller();
  v_name text := trim(coalesce(p_name, ''));
  v_cluster uuid;
begin
  if length(v_name) not between 1 and 100 then
    raise exception using errcode = 'PT422', message = 'a cluster name has 1 to 100 characters';
  end if;
  if coalesce(p_max_concurrency, 1) not between 0 and 1000 then
    raise exception using errcode = 'PT422', message = 'max_concurrency is between 0 and 1000';
  end if;
  insert into public.clusters (user_id, name, max_concurrency)
    values (v_user, v_name, coalesce(p_max_concurrency, 1))
    returning id into v_cluster;
  perform tendril_private.audit('cluster_registered', v_cluster);
  return tendril_private.issue_token(v_cluster, null);
end $$;

COMMENT ON FUNCTION public.register_cluster(p_name text, p_max_concurrency integer) IS 'For owners: make a cluster and its first token. The token is in this answer and nowhere else. Answers {cluster_id, token, token_id, fingerprint, expires_at}.';

CREATE FUNCTION public.revoke_cluster_token(p_token_id uuid) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_user uuid := tendril_private.caller();
  v_token public.cluster_tokens;
begin
  select t.* into v_token
    from public.cluster_tokens t join public.clusters c on c.id = t.cluster_id
    where t.id = p_token_id and c.user_id = v_user for no key update of t;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such token';
  end if;
  if v_token.revoked_at is null then
    update public.cluster_tokens t set revoked_at = clock_timestamp() where t.id = p_token_id;
    perform tendril_private.audit('token_revoked', v_token.cluster_id,
      p_detail => jsonb_build_object('token_id', p_token_id, 'fingerprint', v_token.fingerprint));
  end if;
  return jsonb_build_object('token_id', p_token_id, 'changed', v_token.revoked_at is null);
end $$;

COMMENT ON FUNCTION public.revoke_cluster_token(p_token_id uuid) IS 'For owners: refuse a token from now on. Answers {token_id, changed}; changed = false: it was revoked before.';

CREATE FUNCTION public.rotate_cluster_token(p_cluster_id uuid, p_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, p_old_expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  c_live_at_most constant int := 2;
  v_answer jsonb;
begin
  perform tendril_private.owned_cluster(p_cluster_id);
  if (select count(*) from public.cluster_tokens t where t.cluster_id = p_cluster_id
      and t.revoked_at is null and (t.expires_at is null or t.expires_at > now()))
      >= c_live_at_most then
    raise exception using errcode = 'PT422', message = 'two tokens are live already',
      hint = 'revoke one (revoke_cluster_token), or wait until one has expired';
  end if;
  if p_old_expires_at is not null then
    update public.cluster_tokens t set expires_at = p_old_expires_at
      where t.cluster_id = p_cluster_id and t.revoked_at is null
        and (t.expires_at is null or t.expires_at > p_old_expires_at);
  end if;
  v_answer := tendril_private.issue_token(p_cluster_id, p_expires_at);
  perform tendril_private.audit('token_rotated', p_cluster_id,
    p_detail => jsonb_strip_nulls(jsonb_build_object('token_id', v_answer -> 'token_id',
      'fingerprint', v_answer -> 'fingerprint', 'expires_at', p_expires_at,
      'old_expires_at', p_old_expires_at)));
  return v_answer;
end $$;

COMMENT ON FUNCTION public.rotate_cluster_token(p_cluster_id uuid, p_expires_at timestamp with time zone, p_old_expires_at timestamp with time zone) IS 'For owners: make another token for the cluster. The old one stays live beside it until it expires (at p_old_expires_at, if given) or is revoked; more than two are never live. Answers {cluster_id, token, token_id, fingerprint, expires_at}; the token is in this answer and nowhere else.';

CREATE TABLE public.configurations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    cluster_id uuid NOT NULL,
    name text NOT NULL,
    template_source jsonb NOT NULL,
    terraform_vars jsonb,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT configurations_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT configurations_options_check CHECK ((jsonb_typeof(options) = 'object'::text))
);

COMMENT ON TABLE public.configurations IS 'What a user wants to exist, by name. Owners read their own and write through save_configuration.';

COMMENT ON COLUMN public.configurations.id IS 'Also names the stack, that is the Terraform state, of the provisions made from it.';

COMMENT ON COLUMN public.configurations.user_id IS 'The owner, who is also that of the cluster.';

COMMENT ON COLUMN public.configurations.cluster_id IS 'Where it is to exist.';

COMMENT ON COLUMN public.configurations.name IS 'For people; unique in the cluster.';

COMMENT ON COLUMN public.configurations.template_source IS 'Which template: {repo, version, path}.';

COMMENT ON COLUMN public.configurations.terraform_vars IS 'The template''s variables.';

COMMENT ON COLUMN public.configurations.options IS 'Every other key of the snapshot: sensitive, backend_config, cost_estimate, meta, …';

COMMENT ON COLUMN public.configurations.created_at IS 'When it was first saved.';

COMMENT ON COLUMN public.configurations.updated_at IS 'When it was last saved.';

CREATE FUNCTION public.save_configuration(p_cluster_id uuid, p_name text, p_config_snapshot jsonb, p_configuration_id uuid DEFAULT NULL::uuid) RETURNS SETOF public.configurations
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_cluster public.clusters := tendril_private.owned_cluster(p_cluster_id);
  v_name text := trim(coalesce(p_name, ''));
  v_configuration public.configurations;
begin
  if length(v_name) not between 1 and 100 then
    raise exception using errcode = 'PT422', message = 'a configuration name has 1 to 100 characters';
  end if;
  perform tendril_private.check_snapshot(p_config_snapshot);
  if exists (select from public.configurations g where g.cluster_id = p_cluster_id
      and g.name = v_name and g.id is distinct from p_configuration_id) then
    raise exception using errcode = 'PT422',
      message = 'the cluster has another configuration of this name';
  end if;
  if p_configuration_id is null then
    insert into public.configurations
        (user_id, cluster_id, name, template_source, terraform_vars, options)
      values (v_cluster.user_id, p_cluster_id, v_name, p_config_snapshot -> 'template_source',
        p_config_snapshot -> 'terraform_vars',
        p_config_snapshot - '{template_source,terraform_vars}'::text[])
      returning * into v_configuration;
  else
    update public.configurations g set cluster_id = p_cluster_id, name = v_name,
        template_source = p_config_snapshot -> 'template_source',
        terraform_vars = p_config_snapshot -> 'terraform_vars',
        options = p_config_snapshot - '{template_source,terraform_vars}'::text[],
        updated_at = clock_timestamp()
      where g.id = p_configuration_id and g.user_id = v_cluster.user_id
      returning g.* into v_configuration;
    if not found then
      raise exception using errcode = 'PT404', message = 'no such configuration';
    end if;
  end if;
  perform tendril_private.audit('configuration_saved', p_cluster_id,
    p_detail => jsonb_build_object('configuration_id', v_configuration.id));
  return next v_configuration;
end $$;

COMMENT ON FUNCTION public.save_configuration(p_cluster_id uuid, p_name text, p_config_snapshot jsonb, p_configuration_id uuid) IS 'For owners: save the desired state, as a snapshot; with p_configuration_id over what is there, else as a new configuration. Answers its row.';

CREATE FUNCTION public.set_cluster_options(p_cluster_id uuid, p_max_concurrency integer DEFAULT NULL::integer, p_drain boolean DEFAULT NULL::boolean) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  v_cluster public.clusters := tendril_private.owned_cluster(p_cluster_id);
  v_max int := coalesce(p_max_concurrency, v_cluster.max_concurrency);
  v_drain boolean := coalesce(p_drain, v_cluster.drain);
  v_changed boolean := (v_max, v_drain) <> (v_cluster.max_concurrency, v_cluster.drain);
begin
  if v_max not between 0 and 1000 then
    raise exception using errcode = 'PT422', message = 'max_concurrency is between 0 and 1000';
  end if;
  if v_changed then
    update public.clusters c set max_concurrency = v_max, drain = v_drain where c.id = p_cluster_id;
    perform tendril_private.audit('cluster_options_set', p_cluster_id,
      p_detail => jsonb_build_object('max_concurrency', v_max, 'drain', v_drain));
  end if;
  return jsonb_build_object('max_concurrency', v_max, 'drain', v_drain, 'changed', v_changed);
end $$;

COMMENT ON FUNCTION public.set_cluster_options(p_cluster_id uuid, p_max_concurrency integer, p_drain boolean) IS 'For owners: how much the cluster runs at once, and whether it takes on anything at all; null leaves an option as it is. Answers {max_concurrency, drain, changed}.';

CREATE FUNCTION public.update_provision_status(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_status text, p_error_message text DEFAULT NULL::text, p_attempt integer DEFAULT NULL::integer, p_agent_id uuid DEFAULT NULL::uuid, p_log_chunks integer DEFAULT NULL::integer, p_error_code text DEFAULT NULL::text, p_execution_metadata jsonb DEFAULT NULL::jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
declare
  c_metadata_bytes constant int := 262144;
  v_metadata jsonb := coalesce(nullif(p_execution_metadata, 'null'), '{}');
  v_attempt int;
begin
  perform tendril_private.authenticate(p_cluster_id, p_token_hash);
  if coalesce(p_status, '') not in ('PROCESSING', 'SUCCESS', 'FAILED', 'CANCELLED') then
    raise exception using errcode = 'PT422', message = 'an agent cannot report this status',
      hint = 'p_status is PROCESSING, SUCCESS, FAILED or CANCELLED';
  end if;
  if jsonb_typeof(v_metadata) <> 'object' or octet_length(v_metadata::text) > c_metadata_bytes then
    raise exception using errcode = 'PT422',
      message = 'execution_metadata is a JSON object of at most 256 KiB';
  end if;

  v_attempt := tendril_private.lock_lease(p_cluster_id, p_provision_id, p_attempt, p_agent_id);
  if v_attempt is null then
    return tendril_private.report_without_lease(p_cluster_id, p_provision_id, p_status,
      p_error_message, p_attempt, p_agent_id, p_log_chunks, p_error_code, v_metadata);
  end if;
  select p.execution_metadata || v_metadata into v_metadata
    from public.provisions p where p.id = p_provision_id;
  if octet_length(v_metadata::text) > 2 * c_metadata_bytes then
    raise exception using errcode = 'PT422',
      message = 'execution_metadata has grown beyond 512 KiB in all';
  end if;

  if p_status = 'PROCESSING' then
    update public.provisions p set execution_metadata = v_metadata
      where p.id = p_provision_id and p.execution_metadata <> v_metadata;
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  -- The outcome is never visible before the last line of the log.
  perform tendril_private.check_log_complete(p_provision_id, v_attempt, p_log_chunks);
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  update public.provisions p set
    status = p_status,
    completed_at = clock_timestamp(),
    error_message = left(p_error_message, 8192),
    error_code = left(p_error_code, 100),
    execution_metadata = v_metadata
  where p.id = p_provision_id;
  perform tendril_private.audit('provision_ended', p_cluster_id, p_provision_id,
    jsonb_strip_nulls(jsonb_build_object('attempt', v_attempt, 'status', p_status,
      'error_code', left(p_error_code, 100))), p_agent_id);
  return jsonb_build_object('status', p_status, 'changed', true);
end $$;

COMMENT ON FUNCTION public.update_provision_status(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_execution_metadata jsonb) IS 'For agents: report the attempt''s status; a final one ends its lease. Refused with PT422 until p_log_chunks chunks are stored, with PT409 if the lease is lost. Repeating a report is a success. An attempt that was given up in APPLY ends with its true outcome, or, where a later provision of its stack has begun, leaves it in execution_metadata.late_result. Answers {status, changed}.';

CREATE FUNCTION tendril_private.attach_realtime() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if to_regprocedure('realtime.send(jsonb, text, text, boolean)') is null
      or to_regprocedure('realtime.topic()') is null
      or to_regclass('realtime.messages') is null then
    return false;
  end if;

  create or replace trigger wake_on_submission after insert on public.provisions
    for each row execute function tendril_private.wake_agents();
  comment on trigger wake_on_submission on public.provisions is
    'There is something to claim. Only where Supabase''s schema "realtime" is, like each wakeup.';
  create or replace trigger wake_on_change
    after update of status, cancel_requested_at, force_cancel_requested_at on public.provisions
    for each row when (
      (new.status = 'QUEUED' and old.status <> 'QUEUED')
      or new.cancel_requested_at is distinct from old.cancel_requested_at
      or new.force_cancel_requested_at is distinct from old.force_cancel_requested_at)
    execute function tendril_private.wake_agents();
  comment on trigger wake_on_change on public.provisions is
    'It is queued again, or it is to be cancelled.';
  create or replace trigger wake_on_release after delete on public.provision_leases
    for each row execute function tendril_private.wake_agents();
  comment on trigger wake_on_release on public.provision_leases is
    'Its stack is free, and a place in the cluster.';
  create or replace trigger wake_on_options
    after update of drain, max_concurrency on public.clusters
    for each row when ((new.drain, new.max_concurrency) <> (old.drain, old.max_concurrency))
    execute function tendril_private.wake_agents();
  comment on trigger wake_on_options on public.clusters is
    'Its agents may take more, or shall take less.';
  create or replace trigger echo_heartbeat
    after insert or update of last_seen on public.agents
    for each row execute function tendril_private.echo_heartbeat();
  comment on trigger echo_heartbeat on public.agents is
    'What an agent must hear after its heartbeat; else its channel is deaf.';

  -- The holder of agent_realtime_token hears the private topic of its own cluster, and sends nothing.
  -- (No COMMENT: Supabase lets "postgres" make policies here, but the table is not its own.)
  drop policy if exists tendril_agent_listens on realtime.messages;
  create policy tendril_agent_listens on realtime.messages for select to anon
    using (extension = 'broadcast' and realtime.topic() = 'cluster:'
      || (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'cluster_id'));
  return true;
end $$;

COMMENT ON FUNCTION tendril_private.attach_realtime() IS 'Make the triggers and the policy of the broadcasts, if Realtime is there; false: it is not. Call it again where Realtime was installed after the migrations; repeating it changes nothing.';

CREATE FUNCTION tendril_private.audit(p_action text, p_cluster_id uuid DEFAULT NULL::uuid, p_provision_id uuid DEFAULT NULL::uuid, p_detail jsonb DEFAULT NULL::jsonb, p_agent_id uuid DEFAULT NULL::uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '');
  v_headers jsonb := nullif(current_setting('request.headers', true), '');
  v_said_cluster text := v_headers ->> 'x-cluster-id';
  v_user text := v_claims ->> 'sub';
begin
  insert into public.audit_events (action, actor, user_id, agent_id, cluster_id, provision_id,
      request_cluster_id, token_fingerprint, detail)
    values (p_action,
      case v_claims ->> 'role' when 'anon' then 'agent' when 'authenticated' then 'owner'
        else 'service' end,
      case when tendril_private.is_uuid(v_user) then v_user::uuid end,
      p_agent_id, p_cluster_id, p_provision_id,
      case when tendril_private.is_uuid(v_said_cluster) then v_said_cluster::uuid end,
      substring(lower(v_headers ->> 'x-agent-token') from '^[0-9a-f]{1,12}'),
      p_detail);
end $$;

COMMENT ON FUNCTION tendril_private.audit(p_action text, p_cluster_id uuid, p_provision_id uuid, p_detail jsonb, p_agent_id uuid) IS 'Write down what the request that is being served has done.';

CREATE FUNCTION tendril_private.audit_request() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform tendril_private.audit('provision_created', new.cluster_id, new.id, jsonb_strip_nulls(
    jsonb_build_object('operation', new.operation, 'configuration_id', new.configuration_id)));
  return null;
end $$;

COMMENT ON FUNCTION tendril_private.audit_request() IS 'Write down who submitted the provision, by whichever way.';

CREATE FUNCTION tendril_private.audit_system(p_action text, p_cluster_id uuid, p_provision_id uuid DEFAULT NULL::uuid, p_detail jsonb DEFAULT NULL::jsonb, p_agent_id uuid DEFAULT NULL::uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  insert into public.audit_events (action, actor, agent_id, cluster_id, provision_id, detail)
    values (p_action, 'system', p_agent_id, p_cluster_id, p_provision_id, p_detail);
end $$;

COMMENT ON FUNCTION tendril_private.audit_system(p_action text, p_cluster_id uuid, p_provision_id uuid, p_detail jsonb, p_agent_id uuid) IS 'Write down what time has brought about. Of the request nothing is kept: it may be of another owner''s agent, whose heartbeat merely noticed.';

CREATE FUNCTION tendril_private.authenticate(p_cluster_id uuid, p_token_hash text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_verifier bytea := tendril_private.verifier_of(p_token_hash);
  v_cluster_id uuid := coalesce(p_cluster_id, '00000000-0000-0000-0000-000000000000');
  v_token public.cluster_tokens;
begin
  -- The same work whatever is wrong: one hash, and one row read, the token at or after this place in
  -- the index. (Past the last one none is read, which says nothing about any cluster.)
  select t.* into v_token from public.cluster_tokens t
    where (t.verifier, t.cluster_id) >= (v_verifier, v_cluster_id)
    order by t.verifier, t.cluster_id limit 1;
  if (v_token.verifier = v_verifier and v_token.cluster_id = p_cluster_id
      and v_token.revoked_at is null
      and (v_token.expires_at is null or v_token.expires_at > now())) is not true then
    raise exception using errcode = 'PT401', message = 'cluster id or token are wrong',
      hint = 'check TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN; the token may be expired or revoked';
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.authenticate(p_cluster_id uuid, p_token_hash text) IS 'Raise PT401 unless the hash is that of a live token of the cluster. Neither the answer nor the work tells which of the two was wrong.';

CREATE FUNCTION tendril_private.base64url(p_bytes bytea) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN translate(encode(p_bytes, 'base64'::text), '+/=
'::text, '-_'::text);

COMMENT ON FUNCTION tendril_private.base64url(p_bytes bytea) IS 'Base64 of RFC 4648 section 5, without padding or line breaks.';

CREATE FUNCTION tendril_private.broadcast(p_cluster_id uuid, p_event text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform realtime.send('{}'::jsonb, p_event, 'cluster:' || p_cluster_id::text, true);
end $$;

COMMENT ON FUNCTION tendril_private.broadcast(p_cluster_id uuid, p_event text) IS 'Send an event without content to the private topic of a cluster. realtime.send turns its own errors into warnings, so the caller''s work never fails for want of Realtime; it must run as an owner with BYPASSRLS.';

CREATE FUNCTION tendril_private.caller() RETURNS uuid
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_subject text := nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub';
begin
  if not tendril_private.is_uuid(v_subject) then
    raise exception using errcode = 'PT401', message = 'not signed in',
      hint = 'send the access token of a signed-in user';
  end if;
  return v_subject::uuid;
end $$;

COMMENT ON FUNCTION tendril_private.caller() IS 'The signed-in user: the subject of the request''s JWT. Raises PT401 where there is none.';

CREATE FUNCTION tendril_private.cancel_level(p_requested timestamp with time zone, p_forced timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (p_forced IS NOT NULL) THEN 'force'::text WHEN (p_requested IS NOT NULL) THEN 'graceful'::text ELSE 'none'::text END;

COMMENT ON FUNCTION tendril_private.cancel_level(p_requested timestamp with time zone, p_forced timestamp with time zone) IS 'What agents are told: none, graceful or force.';

CREATE FUNCTION tendril_private.check_agent(p_agent jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $_$
declare
  v_leases jsonb := coalesce(p_agent -> 'leases', '[]');
begin
  if jsonb_typeof(p_agent) <> 'object' or not tendril_private.is_uuid(p_agent ->> 'id') then
    raise exception using errcode = 'PT422', message = 'p_agent is an object with a uuid id';
  end if;
  if coalesce(p_agent ->> 'state', 'ONLINE') not in ('ONLINE', 'DRAINING')
      or coalesce(p_agent ->> 'capacity', '0') !~ '^[0-9]{1,9}$' then
    raise exception using errcode = 'PT422',
      message = 'p_agent.state is ONLINE or DRAINING, p_agent.capacity a count';
  end if;
  if jsonb_typeof(v_leases) <> 'array' or jsonb_array_length(v_leases) > 1000 then
    raise exception using errcode = 'PT422', message = 'p_agent.leases is a list of at most 1000';
  end if;
  perform from jsonb_array_elements(v_leases) as x (item)
    where jsonb_typeof(x.item) <> 'object'
      or not tendril_private.is_uuid(x.item ->> 'provision_id')
      or coalesce(x.item ->> 'attempt', '') !~ '^[0-9]{1,9}$'
      or coalesce(x.item ->> 'phase', 'PREPARE') not in ('PREPARE', 'PLAN', 'APPLY');
  if found then
    raise exception using errcode = 'PT422',
      message = 'a lease in p_agent.leases is {provision_id, attempt, phase}',
      hint = 'phase is PREPARE, PLAN or APPLY';
  end if;
end $_$;

COMMENT ON FUNCTION tendril_private.check_agent(p_agent jsonb) IS 'Raise PT422 unless the heartbeat''s p_agent has the shape that is read.';

CREATE FUNCTION tendril_private.check_chunks(p_first_seq integer, p_chunks jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
begin
  if coalesce(p_first_seq, -1) < 0 then
    raise exception using errcode = 'PT422', message = 'p_first_seq counts from 0';
  end if;
  if coalesce(jsonb_typeof(p_chunks), '') <> 'array' or jsonb_array_length(p_chunks) > 1000 then
    raise exception using errcode = 'PT422', message = 'p_chunks is a list of at most 1000 chunks';
  end if;
  perform from jsonb_array_elements(p_chunks) as x (chunk)
    where jsonb_typeof(x.chunk) <> 'object'
      or coalesce(x.chunk ->> 's', '') not in ('STDOUT', 'STDERR', 'SYSTEM')
      or coalesce(jsonb_typeof(x.chunk -> 'o'), '') <> 'number'
      or coalesce(jsonb_typeof(x.chunk -> 't'), '') <> 'string'
      or octet_length(x.chunk ->> 't') > 65536;
  if found then
    raise exception using errcode = 'PT422',
      message = 'a chunk is {s: stream, o: byte offset, t: text of at most 64 KiB}',
      hint = 's is STDOUT, STDERR or SYSTEM';
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.check_chunks(p_first_seq integer, p_chunks jsonb) IS 'Raise PT422 unless the batch has the shape that is read.';

CREATE FUNCTION tendril_private.check_log_complete(p_provision_id uuid, p_attempt integer, p_log_chunks integer) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
declare
  v_stored int;
begin
  select e.next_seq into v_stored from tendril_private.log_end(p_provision_id, p_attempt) e;
  if v_stored < p_log_chunks then
    raise exception using errcode = 'PT422', message = 'the log is not complete yet',
      detail = format('stored=%s expected=%s', v_stored, p_log_chunks),
      hint = 'deliver the missing chunks first';
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.check_log_complete(p_provision_id uuid, p_attempt integer, p_log_chunks integer) IS 'Raise PT422 until so many chunks of the attempt are stored; null: as many as there are.';

CREATE FUNCTION tendril_private.check_signature() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if length(new.signature) > 512 then
    raise exception using errcode = 'PT422', message = 'signature is v1.<time>.<base64url>';
  end if;
  return new;
end $$;

COMMENT ON FUNCTION tendril_private.check_signature() IS 'Refuse with PT422 what cannot be a signature; whether it is a good one only agents know.';

CREATE FUNCTION tendril_private.check_snapshot(p_snapshot jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
declare
  c_bytes_at_most constant int := 1048576;
  v_fault text;
begin
  if octet_length(p_snapshot::text) > c_bytes_at_most then
    raise exception using errcode = 'PT422', message = 'config_snapshot is larger than 1 MiB';
  end if;
  v_fault := tendril_private.snapshot_fault(p_snapshot);
  if v_fault is not null then
    raise exception using errcode = 'PT422', message = 'config_snapshot is malformed',
      detail = v_fault;
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.check_snapshot(p_snapshot jsonb) IS 'Raise PT422, with the field in the detail, unless an agent can work with the snapshot.';

CREATE FUNCTION tendril_private.claim_key(p_claim_id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtextextended(('tendril claim '::text || (p_claim_id)::text), (0)::bigint);

COMMENT ON FUNCTION tendril_private.claim_key(p_claim_id uuid) IS 'Advisory lock of a claim id: a claim that is sent again waits for its first sending.';

CREATE FUNCTION tendril_private.echo_heartbeat() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform tendril_private.broadcast(new.cluster_id, 'pulse');
  return null;
end $$;

COMMENT ON FUNCTION tendril_private.echo_heartbeat() IS 'Each heartbeat comes back to the cluster as a broadcast: an agent that does not hear it knows that its channel is deaf.';

CREATE FUNCTION tendril_private.gate_key(p_cluster_id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtextextended(('tendril gate '::text || (p_cluster_id)::text), (0)::bigint);

COMMENT ON FUNCTION tendril_private.gate_key(p_cluster_id uuid) IS 'Advisory lock of a cluster: shared by the claims in flight, held alone by who lowers its limit. Should two clusters ever have the same, they wait for each other, and nothing else.';

CREATE FUNCTION tendril_private.hash_of(p_token text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN encode(sha256(convert_to(p_token, 'UTF8'::name)), 'hex'::text);

COMMENT ON FUNCTION tendril_private.hash_of(p_token text) IS 'What agents send instead of their token: its sha256 in hex.';

CREATE FUNCTION tendril_private.hear_agent() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_before timestamptz;
begin
  select w.swept_at into v_before
    from tendril_private.sweeps w cross join tendril_private.settings s
    where w.one_row and s.one_row and w.swept_at < clock_timestamp() - s.sweep_every
    for update of w skip locked;
  if not found then
    return false;
  end if;
  update tendril_private.sweeps w set
      swept_at = clock_timestamp(),
      paused_until = case
        when v_before > '-infinity' and v_before < clock_timestamp() - s.outage_after
        then clock_timestamp() + s.lease_ttl else w.paused_until end
    from tendril_private.settings s
    where w.one_row and s.one_row;
  return true;
end $$;

COMMENT ON FUNCTION tendril_private.hear_agent() IS 'Note that some agent is heard, at most once per settings.sweep_every; whoever notes it, sweeps: true. If none at all was heard for settings.outage_after, reaping pauses for one lease_ttl.';

CREATE FUNCTION tendril_private.hmac_sha256(p_message bytea, p_key bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO ''
    AS $$
declare
  c_block_bytes constant int := 64;
  v_key bytea := case when length(p_key) > c_block_bytes then sha256(p_key) else p_key end;
  v_inner bytea;
  v_outer bytea;
begin
  v_key := v_key || decode(repeat('00', c_block_bytes - length(v_key)), 'hex');
  v_inner := v_key;
  v_outer := v_key;
  for i in 0 .. c_block_bytes - 1 loop
    v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);  -- 0x36, RFC 2104
    v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);  -- 0x5c
  end loop;
  return sha256(v_outer || sha256(v_inner || p_message));
end $$;

COMMENT ON FUNCTION tendril_private.hmac_sha256(p_message bytea, p_key bytea) IS 'HMAC-SHA256 (RFC 2104) without pgcrypto, which not every server has.';

CREATE FUNCTION tendril_private.is_uuid(p_text text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN COALESCE((p_text ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'::text), false);

COMMENT ON FUNCTION tendril_private.is_uuid(p_text text) IS 'Whether a cast to uuid will succeed (Postgres 15 has no pg_input_is_valid).';

CREATE FUNCTION tendril_private.issue_token(p_cluster_id uuid, p_expires_at timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  -- 244 random bits from the server's strong source, which is what gen_random_uuid() draws on.
  v_token text := 'tendril_' || encode(
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
  v_hash text := tendril_private.hash_of(v_token);
  v_id uuid;
begin
  if p_expires_at <= now() then
    raise exception using errcode = 'PT422', message = 'a token cannot expire in the past';
  end if;
  insert into public.cluster_tokens (cluster_id, verifier, fingerprint, expires_at)
    values (p_cluster_id, tendril_private.verifier_of(v_hash), left(v_hash, 12), p_expires_at)
    returning id into v_id;
  return jsonb_build_object('cluster_id', p_cluster_id, 'token', v_token, 'token_id', v_id,
    'fingerprint', left(v_hash, 12), 'expires_at', p_expires_at);
end $$;

COMMENT ON FUNCTION tendril_private.issue_token(p_cluster_id uuid, p_expires_at timestamp with time zone) IS 'Make a token. It is in this answer and nowhere else.';

CREATE FUNCTION tendril_private.lock_lease(p_cluster_id uuid, p_provision_id uuid, p_attempt integer, p_agent_id uuid) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_attempt int;
begin
  for i in 1 .. 2 loop
    select l.attempt into v_attempt from public.provision_leases l
      where l.provision_id = p_provision_id and l.cluster_id = p_cluster_id
        and l.agent_id is not distinct from p_agent_id
        and (l.attempt = p_attempt or (p_attempt is null and l.agent_id is null))
      for update;
    exit when found;
    -- Given up in APPLY? Then the report itself is what is heard of the attempt again.
    perform tendril_private.take_up_lease(l.provision_id) from tendril_private.lost_leases l
      where l.provision_id = p_provision_id and l.cluster_id = p_cluster_id
        and l.agent_id is not distinct from p_agent_id
        and (l.attempt = p_attempt or (p_attempt is null and l.agent_id is null));
    exit when not found;
  end loop;
  return v_attempt;
end $$;

COMMENT ON FUNCTION tendril_private.lock_lease(p_cluster_id uuid, p_provision_id uuid, p_attempt integer, p_agent_id uuid) IS 'The number of the attempt that the caller holds the lease of, which is then locked; null: none. Here writes are fenced.';

CREATE FUNCTION tendril_private.lock_log(p_provision_id uuid, p_attempt integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform pg_advisory_xact_lock(hashtextextended('tendril log ' || p_provision_id::text, p_attempt));
end $$;

COMMENT ON FUNCTION tendril_private.lock_log(p_provision_id uuid, p_attempt integer) IS 'One writer at a time per attempt, so that the next number and offset are read once they are final.';

CREATE FUNCTION tendril_private.log_end(p_provision_id uuid, p_attempt integer, OUT next_seq integer, OUT next_offset bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
begin
  select l.seq + 1, l.byte_offset + octet_length(l.log_chunk) into next_seq, next_offset
    from public.provision_logs l
    where l.provision_id = p_provision_id and l.attempt = p_attempt
    order by l.seq desc limit 1;
  next_seq := coalesce(next_seq, 0);
  next_offset := coalesce(next_offset, 0);
end $$;

COMMENT ON FUNCTION tendril_private.log_end(p_provision_id uuid, p_attempt integer, OUT next_seq integer, OUT next_offset bigint) IS 'Number and offset that the next chunk of the attempt must have.';

CREATE FUNCTION tendril_private.mark_offline(p_at_most integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'on'
    AS $$
declare
  v_cluster_id uuid;
  v_count int := 0;
begin
  for v_cluster_id in
    update public.clusters set status = 'OFFLINE' where id in (
      select c.id from public.clusters c cross join tendril_private.settings s
      where c.status = 'ONLINE' and c.last_heartbeat < clock_timestamp() - s.offline_after
      limit p_at_most for update of c skip locked)
    returning id
  loop
    perform tendril_private.audit_system('cluster_offline', v_cluster_id);
    v_count := v_count + 1;
  end loop;
  update public.agents a set state = 'OFFLINE' from (
      select g.cluster_id, g.id from public.agents g cross join tendril_private.settings s
      where g.state <> 'OFFLINE' and g.last_seen < clock_timestamp() - s.offline_after
      limit p_at_most for update of g skip locked) silent
    where a.cluster_id = silent.cluster_id and a.id = silent.id;
  return v_count;
end $$;

COMMENT ON FUNCTION tendril_private.mark_offline(p_at_most integer) IS 'Mark silent clusters and agents OFFLINE; answers how many clusters.';

CREATE FUNCTION tendril_private.may_reap() RETURNS boolean
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select w.paused_until <= clock_timestamp() and w.swept_at > clock_timestamp() - s.outage_after
  from tendril_private.sweeps w cross join tendril_private.settings s
  where w.one_row and s.one_row
$$;

COMMENT ON FUNCTION tendril_private.may_reap() IS 'Whether agents'' silence is their own. Not while an outage of the control plane is being noted by another session, nor in the pause after it.';

CREATE TABLE public.clusters (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'PENDING'::text NOT NULL,
    last_heartbeat timestamp with time zone,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    max_concurrency integer DEFAULT 1 NOT NULL,
    drain boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT clusters_max_concurrency_check CHECK (((max_concurrency >= 0) AND (max_concurrency <= 1000))),
    CONSTRAINT clusters_metadata_check CHECK ((jsonb_typeof(metadata) = 'object'::text)),
    CONSTRAINT clusters_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
    CONSTRAINT clusters_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'ONLINE'::text, 'OFFLINE'::text])))
)
WITH (fillfactor='70');

COMMENT ON TABLE public.clusters IS 'Where agents run. Owners read their own; written by the owners'' functions and by heartbeats.';

COMMENT ON COLUMN public.clusters.id IS 'Known to the agent as TENDRIL_CLUSTER_ID.';

COMMENT ON COLUMN public.clusters.user_id IS 'The owner: the subject of the JWT that registered it. No foreign key: the embedded plane has no auth.users.';

COMMENT ON COLUMN public.clusters.name IS 'For people; need not be unique.';

COMMENT ON COLUMN public.clusters.status IS 'PENDING until the first heartbeat, then ONLINE, OFFLINE after a silence. Readers derive OFFLINE from the age of last_heartbeat as well.';

COMMENT ON COLUMN public.clusters.last_heartbeat IS 'Last heartbeat of any agent, to within settings.beat_coalescing.';

COMMENT ON COLUMN public.clusters.metadata IS 'Free for the owner''s tools.';

COMMENT ON COLUMN public.clusters.max_concurrency IS 'How many provisions may run here at once, over all agents; 0 pauses the cluster.';

COMMENT ON COLUMN public.clusters.drain IS 'Nothing more is claimed here; what runs goes on to its end. Heartbeats tell the agents.';

COMMENT ON COLUMN public.clusters.created_at IS 'When it was registered.';

CREATE FUNCTION tendril_private.owned_cluster(p_cluster_id uuid) RETURNS public.clusters
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_user uuid := tendril_private.caller();
  v_cluster public.clusters;
begin
  select c.* into v_cluster from public.clusters c
    where c.id = p_cluster_id and c.user_id = v_user for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such cluster';
  end if;
  return v_cluster;
end $$;

COMMENT ON FUNCTION tendril_private.owned_cluster(p_cluster_id uuid) IS 'The caller''s cluster, locked. Raises PT404 if there is none, or it is another''s.';

CREATE FUNCTION tendril_private.prepare_provision() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  new.operation := coalesce(new.operation, 'APPLY');
  if new.operation not in ('APPLY', 'PLAN', 'DESTROY') then
    raise exception using errcode = 'PT422', message = 'operation is APPLY, PLAN or DESTROY';
  end if;
  if length(new.configuration_hash) > 128 then
    raise exception using errcode = 'PT422', message = 'configuration_hash is a sha256 in hex';
  end if;
  new.stack_key := coalesce(
    new.stack_key,
    new.configuration_id::text,
    concat_ws('/', new.cluster_id::text,
      new.config_snapshot #>> '{template_source,repo}',
      new.config_snapshot #>> '{template_source,path}'));
  new.status := 'QUEUED';
  new.attempt := 0;
  return new;
end $$;

COMMENT ON FUNCTION tendril_private.prepare_provision() IS 'Fill in what the submitter does not say: every provision starts QUEUED.';

CREATE FUNCTION tendril_private.provision_key(p_provision_id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtextextended(('tendril provision '::text || (p_provision_id)::text), (0)::bigint);

COMMENT ON FUNCTION tendril_private.provision_key(p_provision_id uuid) IS 'Advisory lock of a provision: held by the claimer that is about to take it. Nobody waits for it.';

CREATE FUNCTION tendril_private.reap_cluster(p_cluster_id uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform from tendril_private.dead_leases d where d.cluster_id = p_cluster_id limit 1;
  if found and tendril_private.may_reap() then
    perform tendril_private.reap_lease(d.provision_id)
      from tendril_private.dead_leases d where d.cluster_id = p_cluster_id;
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.reap_cluster(p_cluster_id uuid) IS 'Reap the dead leases of one cluster.';

CREATE FUNCTION tendril_private.reap_lease(p_provision_id uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_lease public.provision_leases;
  v_status text;
begin
  select l.* into v_lease from public.provision_leases l
    where l.provision_id = p_provision_id for update skip locked;
  if not found then
    return false;
  end if;
  -- Again, now that nobody can renew it.
  perform from tendril_private.dead_leases d where d.provision_id = p_provision_id;
  if not found then
    return false;
  end if;
  delete from public.provision_leases l where l.provision_id = p_provision_id;
  if v_lease.phase = 'APPLY' then
    insert into tendril_private.lost_leases
        (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id)
      values (v_lease.provision_id, v_lease.cluster_id, v_lease.stack_key, v_lease.attempt,
        v_lease.agent_id, v_lease.claim_id);
    update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST_DURING_APPLY',
      error_message = 'The agent went silent while Terraform may have been changing resources. '
        'Nothing was run again, and the end of the log may be missing. Check the real state and the '
        'state lock before the next run.'
    where p.id = p_provision_id
    returning p.status into v_status;
  elsif exists (select from public.provisions p
      where p.id = p_provision_id and p.cancel_requested_at is not null) then
    update public.provisions p set status = 'CANCELLED', completed_at = clock_timestamp(),
      error_code = 'AGENT_LOST',
      error_message = 'Cancelled; the agent went silent before it changed anything. The end of the '
        'log may be missing.'
    where p.id = p_provision_id
    returning p.status into v_status;
  else
    update public.provisions p set status = 'QUEUED', started_at = null,
      not_before = clock_timestamp() + least(s.retry_cap, s.retry_base * 2.0 ^ (p.attempt - 1))
        * (0.75 + random() / 2)
    from tendril_private.settings s
    where s.one_row and p.id = p_provision_id and p.attempt < p.max_attempts
    returning p.status into v_status;
    if not found then
      update public.provisions p set status = 'FAILED', completed_at = clock_timestamp(),
        error_code = 'AGENT_LOST',
        error_message = format('The agent went silent in each of %s attempts, before it changed '
          'anything; the ends of their logs may be missing. Check the agent''s host, then submit '
          'again.', p.attempt)
      where p.id = p_provision_id
      returning p.status into v_status;
    end if;
  end if;
  perform tendril_private.audit_system('lease_reaped', v_lease.cluster_id, p_provision_id,
    jsonb_build_object('attempt', v_lease.attempt, 'phase', v_lease.phase, 'status', v_status),
    v_lease.agent_id);
  return true;
end $$;

COMMENT ON FUNCTION tendril_private.reap_lease(p_provision_id uuid) IS 'Give up the attempt of a dead lease: before APPLY the provision is queued again while attempts are left; in APPLY it is FAILED, until the attempt is heard again. Answers whether it was: not if the lease is alive, or in other hands at this moment.';

CREATE FUNCTION tendril_private.refuse_move() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if old.status = new.status
      or (old.status = 'QUEUED' and new.status in ('PROCESSING', 'CANCELLED'))
      or (old.status = 'PROCESSING' and new.status in ('QUEUED', 'SUCCESS', 'FAILED', 'CANCELLED'))
      or (old.status = 'FAILED' and new.status = 'PROCESSING' and new.attempt = old.attempt
        and old.error_code is not distinct from 'AGENT_LOST_DURING_APPLY') then
    return new;
  end if;
  raise exception using errcode = 'PT409', message = 'illegal move of a provision''s status',
    detail = format('%s -> %s', old.status, new.status);
end $$;

COMMENT ON FUNCTION tendril_private.refuse_move() IS 'Raise PT409 for a move that is not legal; called by the trigger legal_moves for every move.';

CREATE FUNCTION tendril_private.refuse_rewriting() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception using errcode = 'PT422', message = 'audit events are append-only';
end $$;

COMMENT ON FUNCTION tendril_private.refuse_rewriting() IS 'Raise PT422; called by the trigger append_only for everything but an insert.';

CREATE FUNCTION tendril_private.register_agent(p_cluster_id uuid, p_agent jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  c_agents_at_most constant int := 1000;  -- of one cluster
  v_agent_id uuid := (p_agent ->> 'id')::uuid;
  v_hostname text := left(p_agent ->> 'hostname', 255);
  v_version text := left(p_agent ->> 'version', 100);
  v_install_id text := left(p_agent ->> 'install_id', 100);
  v_state text := coalesce(p_agent ->> 'state', 'ONLINE');
  v_capacity int := case when p_agent ->> 'capacity' is not null
    then least((p_agent ->> 'capacity')::int, 1000) end;
begin
  update public.agents a set hostname = v_hostname, version = v_version, state = v_state,
      capacity = v_capacity, install_id = v_install_id, last_seen = clock_timestamp()
    where a.cluster_id = p_cluster_id and a.id = v_agent_id;
  if found then
    return;
  end if;
  insert into public.agents
      (cluster_id, id, hostname, version, state, capacity, install_id, last_seen)
    values (p_cluster_id, v_agent_id, v_hostname, v_version, v_state, v_capacity, v_install_id,
      clock_timestamp())
    on conflict do nothing;
  -- An agent that lost its state directory comes back as another: the old ones are forgotten.
  delete from public.agents a
    where a.cluster_id = p_cluster_id and a.last_seen < now() - interval '7 days';
  if (select count(*) from public.agents a where a.cluster_id = p_cluster_id) > c_agents_at_most then
    raise exception using errcode = 'PT429', message = 'the cluster has too many agents',
      hint = 'an agent keeps its id in TENDRIL_STATE_DIR: is that folder lost at every start?';
  end if;
  perform tendril_private.audit('agent_registered', p_cluster_id, p_agent_id => v_agent_id);
end $$;

COMMENT ON FUNCTION tendril_private.register_agent(p_cluster_id uuid, p_agent jsonb) IS 'Write down what a heartbeat says of its agent.';

CREATE FUNCTION tendril_private.renew_leases(p_cluster_id uuid, p_agent_id uuid, p_leases jsonb) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  with listed as (
    select (x.item ->> 'provision_id')::uuid as provision_id, (x.item ->> 'attempt')::int as attempt,
      x.item ->> 'phase' as phase, x.position
    from jsonb_array_elements(p_leases) with ordinality as x (item, position)
  ), held as materialized (  -- locked in one order, or two heartbeats of one agent could deadlock
    select l.provision_id, listed.phase
    from public.provision_leases l join listed using (provision_id, attempt)
    where l.cluster_id = p_cluster_id and l.agent_id = p_agent_id
    order by l.provision_id for update of l
  ), renewed as (
    update public.provision_leases l set
      expires_at = clock_timestamp() + s.lease_ttl,
      -- A heartbeat that was overtaken on its way must not take an announced APPLY back.
      phase = case when array_position('{PREPARE,PLAN,APPLY}', held.phase)
          > array_position('{PREPARE,PLAN,APPLY}', l.phase)
        then held.phase else l.phase end
    from held cross join tendril_private.settings s
    where s.one_row and l.provision_id = held.provision_id
    returning l.provision_id, l.attempt
  )
  select coalesce(jsonb_agg(jsonb_build_object(
      'provision_id', listed.provision_id,
      'attempt', listed.attempt,
      'held', renewed.provision_id is not null,
      'cancel', coalesce((  -- not a join, which might read every provision of the cluster
        select tendril_private.cancel_level(p.cancel_requested_at, p.force_cancel_requested_at)
        from public.provisions p
        where p.id = listed.provision_id and p.cluster_id = p_cluster_id), 'none')
    ) order by listed.position), '[]')
  from listed left join renewed using (provision_id, attempt)
$$;

COMMENT ON FUNCTION tendril_private.renew_leases(p_cluster_id uuid, p_agent_id uuid, p_leases jsonb) IS 'Renew the listed leases of one agent and say of each whether it is held and what was asked.';

CREATE FUNCTION tendril_private.replay_claim(p_cluster_id uuid, p_agent_id uuid, p_claim_id uuid) RETURNS SETOF public.provisions
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_id uuid;
begin
  update public.provision_leases l set expires_at = clock_timestamp() + s.lease_ttl
    from tendril_private.settings s
    where s.one_row and l.claim_id = p_claim_id and l.cluster_id = p_cluster_id
      and l.agent_id is not distinct from p_agent_id
    returning l.provision_id into v_id;
  return query select p.* from public.provisions p where p.id = v_id;
end $$;

COMMENT ON FUNCTION tendril_private.replay_claim(p_cluster_id uuid, p_agent_id uuid, p_claim_id uuid) IS 'What an earlier call with this claim id took, with its lease renewed: a lost answer loses nothing.';

CREATE FUNCTION tendril_private.report_without_lease(p_cluster_id uuid, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_metadata jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_provision public.provisions;
  v_is_author boolean;
begin
  select p.* into v_provision from public.provisions p
    where p.id = p_provision_id and p.cluster_id = p_cluster_id for no key update;
  if not found then
    raise exception using errcode = 'PT404', message = 'no such provision';
  end if;
  v_is_author := v_provision.attempt > 0
    and v_provision.claimed_by is not distinct from p_agent_id
    and (v_provision.attempt = p_attempt or (p_attempt is null and p_agent_id is null));
  if v_is_author and v_provision.status = 'FAILED' and p_status <> 'PROCESSING'
      and v_provision.error_code = 'AGENT_LOST_DURING_APPLY' then
    perform tendril_private.check_log_complete(p_provision_id, v_provision.attempt, p_log_chunks);
    if not v_provision.execution_metadata ? 'late_result' then
      update public.provisions p set execution_metadata = p.execution_metadata
          || jsonb_build_object('late_result', jsonb_strip_nulls(jsonb_build_object(
            'status', p_status, 'reported_at', clock_timestamp(),
            'error_code', left(p_error_code, 100), 'error_message', left(p_error_message, 8192),
            'execution_metadata', p_metadata)))
        where p.id = p_provision_id;
      perform tendril_private.audit('late_result_kept', p_cluster_id, p_provision_id,
        jsonb_build_object('attempt', v_provision.attempt, 'status', p_status), p_agent_id);
    end if;
    return jsonb_build_object('status', v_provision.status, 'changed', false, 'late', true);
  end if;
  if v_is_author and v_provision.status = p_status and v_provision.completed_at is not null then
    return jsonb_build_object('status', p_status, 'changed', false);
  end if;
  raise exception using errcode = 'PT409', message = 'the lease is lost',
    hint = 'stop the attempt and report nothing more';
end $$;

COMMENT ON FUNCTION tendril_private.report_without_lease(p_cluster_id uuid, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_metadata jsonb) IS 'A report of an attempt that holds no lease: kept aside if it comes too late to undo the verdict on a silent agent, a success if it repeats the one that ended the attempt, else PT409.';

CREATE FUNCTION tendril_private.schedule_upkeep() RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return false;
  end if;
  perform cron.schedule('tendril reap leases', '* * * * *', 'select public.reap_leases()');
  perform cron.schedule('tendril mark offline clusters', '* * * * *',
    'select public.mark_offline_clusters()');
  perform cron.schedule('tendril prune logs', '17 * * * *',
    'select public.prune_logs(s.log_retention) from tendril_private.settings s');
  return true;
end $$;

COMMENT ON FUNCTION tendril_private.schedule_upkeep() IS 'Schedule the upkeep, if the extension pg_cron is there; false: it is not. Call it again where pg_cron was installed after the migrations; a schedule of the same name is replaced.';

CREATE FUNCTION tendril_private.set_jwt_secret(p_secret text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  delete from tendril_private.jwt_secrets;
  if p_secret <> '' then
    insert into tendril_private.jwt_secrets (secret) values (p_secret);
  end if;
  perform tendril_private.audit('jwt_secret_set');
end $$;

COMMENT ON FUNCTION tendril_private.set_jwt_secret(p_secret text) IS 'Store the project''s JWT secret, with which agents'' Realtime tokens are signed; null or empty removes it, and agents then work by polling.';

CREATE FUNCTION tendril_private.side_by_side_from() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 32;

COMMENT ON FUNCTION tendril_private.side_by_side_from() IS 'The least max_concurrency with which claims go side by side.';

CREATE FUNCTION tendril_private.sign_jwt(p_claims jsonb, p_secret text) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path TO ''
    AS $$
  select signed.part || '.' || tendril_private.base64url(
    tendril_private.hmac_sha256(convert_to(signed.part, 'UTF8'), convert_to(p_secret, 'UTF8')))
  from (
    select tendril_private.base64url(convert_to('{"alg":"HS256","typ":"JWT"}', 'UTF8'))
      || '.' || tendril_private.base64url(convert_to(p_claims::text, 'UTF8')) as part
  ) signed
$$;

COMMENT ON FUNCTION tendril_private.sign_jwt(p_claims jsonb, p_secret text) IS 'A compact JWT, HS256.';

CREATE FUNCTION tendril_private.slot_in_turn(p_cluster_id uuid) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  -- The poll that finds nothing ends here, without a lock. ORDER BY (not EXISTS) makes the second test
  -- read one index entry.
  perform from public.clusters c where c.id = p_cluster_id and not c.drain
    and c.max_concurrency > (
      select count(*) from public.provision_leases l where l.cluster_id = c.id)
    and (c.max_concurrency < tendril_private.side_by_side_from() or exists (
      select from public.provision_leases l
      where l.cluster_id = c.id and (l.slot is null or l.slot > c.max_concurrency)));
  if not found then
    return null;
  end if;
  perform from public.provisions p
    where p.cluster_id = p_cluster_id and p.status = 'QUEUED' order by p.seq limit 1;
  if not found then
    return null;
  end if;
  -- One claimer at a time, until its commit. The statement below is a later one, so that it sees what
  -- the claimer before us committed: lock and count in one statement would count an old snapshot.
  perform pg_advisory_xact_lock(tendril_private.turn_key(p_cluster_id));
  return (select room.slot
    from public.clusters c cross join lateral (
      select generate_series(1, c.max_concurrency) as slot) room
    where c.id = p_cluster_id
      and c.max_concurrency > (
        select count(*) from public.provision_leases l where l.cluster_id = c.id)
      and not exists (
        select from public.provision_leases l
        where l.cluster_id = p_cluster_id and l.slot = room.slot offset 0)
    limit 1);
end $$;

COMMENT ON FUNCTION tendril_private.slot_in_turn(p_cluster_id uuid) IS 'A free slot of a cluster that is small, or has leases beyond its limit: by counting, one claimer after the other, each until the end of its transaction. Null: there is none, or nothing is queued, or the cluster''s claims go side by side.';

CREATE FUNCTION tendril_private.snapshot_fault(p_snapshot jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO ''
    AS $_$
  select 'config_snapshot' || found.fault
  from (
    select rule.position, rule.path || ' ' || rule.wanted as fault
    from (values
      (1, '', 'must be an object',
        jsonb_typeof(p_snapshot) = 'object'),
      (2, '.template_source', 'must be an object',
        jsonb_typeof(p_snapshot -> 'template_source') = 'object'),
      (3, '.template_source.repo', 'must be a string, not empty',
        jsonb_typeof(p_snapshot #> '{template_source,repo}') = 'string'
        and p_snapshot #>> '{template_source,repo}' <> ''),
      (4, '.template_source.version', 'must be a string, not empty',
        jsonb_typeof(p_snapshot #> '{template_source,version}') = 'string'
        and p_snapshot #>> '{template_source,version}' <> ''),
      (5, '.template_source.path', 'must be a string or null',
        coalesce(jsonb_typeof(p_snapshot #> '{template_source,path}'), 'null') in ('string', 'null')),
      (6, '.terraform_vars', 'must be an object or null',
        coalesce(jsonb_typeof(p_snapshot -> 'terraform_vars'), 'null') in ('object', 'null')),
      (8, '.sensitive', 'must be a list of strings or null',
        coalesce(jsonb_typeof(p_snapshot -> 'sensitive'), 'null') in ('array', 'null')
        and jsonb_path_exists(p_snapshot,
          'strict $.sensitive[*] ? (@.type() != "string")', silent => true) is not true),
      (10, '.backend_config', 'must be an object of strings, numbers and booleans, or null',
        coalesce(jsonb_typeof(p_snapshot -> 'backend_config'), 'null') in ('object', 'null')
        and jsonb_path_exists(p_snapshot,
          'strict $.backend_config.* ? (@.type() == "null" || @.type() == "array"
            || @.type() == "object")', silent => true) is not true),
      (12, '.timeouts', 'must be an object or null',
        coalesce(jsonb_typeof(p_snapshot -> 'timeouts'), 'null') in ('object', 'null')),
      (14, '.cost_estimate', 'must be true, false or null',
        coalesce(jsonb_typeof(p_snapshot -> 'cost_estimate'), 'null') in ('boolean', 'null'))
    ) as rule (position, path, wanted, is_met)
    where rule.is_met is not true
    union all
    select named.position, format('.%s: %s is not the name of a Terraform variable or setting',
      named.field, to_json(left(member.name, 100)))
    from (values (7, 'terraform_vars'), (11, 'backend_config')) as named (position, field),
      lateral jsonb_object_keys(case jsonb_typeof(p_snapshot -> named.field)
        when 'object' then p_snapshot -> named.field else '{}' end) as member (name)
    where member.name !~ '^[A-Za-z_][A-Za-z0-9_-]*$'
    union all
    select 9, format('.sensitive names %s, which is not among terraform_vars',
      to_json(left(sensitive.name, 100)))
    from jsonb_array_elements_text(case jsonb_typeof(p_snapshot -> 'sensitive')
      when 'array' then p_snapshot -> 'sensitive' else '[]' end) as sensitive (name)
    where jsonb_typeof(p_snapshot -> 'terraform_vars') is distinct from 'object'
      or not jsonb_exists(p_snapshot -> 'terraform_vars', sensitive.name)
    union all
    select 13, format('.timeouts.%s must be a number of seconds above 0', timeout.name)
    from jsonb_each(case jsonb_typeof(p_snapshot -> 'timeouts')
      when 'object' then p_snapshot -> 'timeouts' else '{}' end) as timeout (name, value)
    where timeout.name in ('init_s', 'plan_s', 'apply_s', 'provision_s')
      and not case jsonb_typeof(timeout.value)
        when 'null' then true
        when 'number' then timeout.value::numeric > 0 and timeout.value::numeric < 1e9
        else false
      end
  ) as found
  order by found.position, found.fault limit 1
$_$;

COMMENT ON FUNCTION tendril_private.snapshot_fault(p_snapshot jsonb) IS 'What is wrong with a config_snapshot''s shape, by the name of the field and without its value; null: nothing. The same rules as the agent''s.';

CREATE FUNCTION tendril_private.snapshot_of(p_configuration public.configurations) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (((p_configuration).options || jsonb_build_object('template_source', (p_configuration).template_source)) || CASE WHEN ((p_configuration).terraform_vars IS NULL) THEN '{}'::jsonb ELSE jsonb_build_object('terraform_vars', (p_configuration).terraform_vars) END);

COMMENT ON FUNCTION tendril_private.snapshot_of(p_configuration public.configurations) IS 'The snapshot that the configuration was saved from.';

CREATE FUNCTION tendril_private.sweep() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'on'
    AS $$
declare
  c_at_most constant int := 20;  -- a heartbeat stays short whatever happened
begin
  if tendril_private.may_reap() then
    perform tendril_private.reap_lease(dead.provision_id)
      from (select d.provision_id from tendril_private.dead_leases d limit c_at_most) dead;
    perform tendril_private.mark_offline(c_at_most);
  end if;
end $$;

COMMENT ON FUNCTION tendril_private.sweep() IS 'Reap dead leases of any cluster and mark silent clusters OFFLINE, so that the lone agent of a cluster is missed too.';

CREATE FUNCTION tendril_private.take_up_lease(p_provision_id uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  v_lost tendril_private.lost_leases;
begin
  -- First the lease, for which the claim of a later provision of the stack competes.
  insert into public.provision_leases
      (provision_id, cluster_id, stack_key, attempt, agent_id, claim_id, phase, expires_at)
    select l.provision_id, l.cluster_id, l.stack_key, l.attempt, l.agent_id, l.claim_id, 'APPLY',
      clock_timestamp() + s.lease_ttl
    from tendril_private.lost_leases l cross join tendril_private.settings s
    where s.one_row and l.provision_id = p_provision_id
    on conflict do nothing;
  if not found then
    return false;
  end if;
  delete from tendril_private.lost_leases l where l.provision_id = p_provision_id
    returning l.* into v_lost;
  if not found then  -- a later provision began, and has ended, since the statement above started
    delete from public.provision_leases l where l.provision_id = p_provision_id;
    return false;
  end if;
  update public.provisions p set status = 'PROCESSING', completed_at = null, error_code = null,
      error_message = null
    where p.id = p_provision_id;
  perform tendril_private.audit('verdict_withdrawn', v_lost.cluster_id, p_provision_id,
    jsonb_build_object('attempt', v_lost.attempt), v_lost.agent_id);
  return true;
end $$;

COMMENT ON FUNCTION tendril_private.take_up_lease(p_provision_id uuid) IS 'An attempt that was given up in APPLY is heard again: it goes on under its old lease, unless a later provision of its stack has begun. It runs anyway, hence also beyond max_concurrency.';

CREATE FUNCTION tendril_private.turn_key(p_cluster_id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN hashtextextended(('tendril turn '::text || (p_cluster_id)::text), (0)::bigint);

COMMENT ON FUNCTION tendril_private.turn_key(p_cluster_id uuid) IS 'Advisory lock of a cluster: whose turn it is to claim (slot_in_turn).';

CREATE FUNCTION tendril_private.validate_request() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform tendril_private.check_snapshot(new.config_snapshot);
  -- Its id names the stack: with another owner's, one could reserve that owner's stack.
  if new.configuration_id is not null and not exists (
      select from public.configurations g join public.clusters c on c.user_id = g.user_id
      where g.id = new.configuration_id and c.id = new.cluster_id) then
    raise exception using errcode = 'PT404', message = 'no such configuration';
  end if;
  return new;
end $$;

COMMENT ON FUNCTION tendril_private.validate_request() IS 'Check what is submitted through the API, by whichever way: the snapshot''s shape, and that the configuration is the owner''s.';

CREATE FUNCTION tendril_private.verifier_of(p_token_hash text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(convert_to(lower("left"(COALESCE(p_token_hash, ''::text), 65)), 'UTF8'::name));

COMMENT ON FUNCTION tendril_private.verifier_of(p_token_hash text) IS 'cluster_tokens.verifier for the hash that an agent sends. Of what is longer than a hash no more is read than shows that it is none.';

CREATE FUNCTION tendril_private.wait_for_claims() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform pg_advisory_xact_lock(tendril_private.gate_key(new.id));
  return new;
end $$;

COMMENT ON FUNCTION tendril_private.wait_for_claims() IS 'Let the claims in flight end first, and let no other begin before the new options are to be seen.';

CREATE FUNCTION tendril_private.wake_agents() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  if tg_table_name = 'clusters' then
    perform tendril_private.broadcast(new.id, 'wakeup');
  elsif tg_op = 'DELETE' then
    perform tendril_private.broadcast(old.cluster_id, 'wakeup');
  else
    perform tendril_private.broadcast(new.cluster_id, 'wakeup');
  end if;
  return null;
end $$;

COMMENT ON FUNCTION tendril_private.wake_agents() IS 'The agents of the row''s cluster have a reason to look.';

CREATE TABLE public.agents (
    cluster_id uuid NOT NULL,
    id uuid NOT NULL,
    hostname text,
    version text,
    state text NOT NULL,
    capacity integer,
    first_seen timestamp with time zone DEFAULT now() NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    install_id text,
    CONSTRAINT agents_capacity_check CHECK (((capacity >= 0) AND (capacity <= 1000))),
    CONSTRAINT agents_hostname_check CHECK ((length(hostname) <= 255)),
    CONSTRAINT agents_install_id_check CHECK ((length(install_id) <= 100)),
    CONSTRAINT agents_state_check CHECK ((state = ANY (ARRAY['ONLINE'::text, 'DRAINING'::text, 'OFFLINE'::text]))),
    CONSTRAINT agents_version_check CHECK ((length(version) <= 100))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500');

COMMENT ON TABLE public.agents IS 'The agents of each cluster, as they describe themselves. Rewritten by every heartbeat, hence unpublished, with room in its pages and no index on what changes.';

COMMENT ON COLUMN public.agents.cluster_id IS 'Whose token it has.';

COMMENT ON COLUMN public.agents.id IS 'Made by the agent and kept in its state directory; unique in its cluster only, so that nobody can take another cluster''s agent''s place.';

COMMENT ON COLUMN public.agents.hostname IS 'Where it runs, as it says.';

COMMENT ON COLUMN public.agents.version IS 'Its release, as it says.';

COMMENT ON COLUMN public.agents.state IS 'ONLINE or DRAINING as its last heartbeat said, OFFLINE after a silence.';

COMMENT ON COLUMN public.agents.capacity IS 'How many provisions it runs at once, as it says.';

COMMENT ON COLUMN public.agents.first_seen IS 'Its first heartbeat.';

COMMENT ON COLUMN public.agents.last_seen IS 'Its last heartbeat.';

COMMENT ON COLUMN public.agents.install_id IS 'The installation that it belongs to (TENDRIL_INSTALL_ID), as it says; null where it says nothing.';

CREATE TABLE public.audit_events (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    action text NOT NULL,
    actor text NOT NULL,
    user_id uuid,
    agent_id uuid,
    cluster_id uuid,
    provision_id uuid,
    request_cluster_id uuid,
    token_fingerprint text,
    detail jsonb,
    CONSTRAINT audit_events_actor_check CHECK ((actor = ANY (ARRAY['agent'::text, 'owner'::text, 'service'::text, 'system'::text]))),
    CONSTRAINT audit_events_token_fingerprint_check CHECK ((length(token_fingerprint) <= 12))
);

COMMENT ON TABLE public.audit_events IS 'Append-only, also for owners and for the table''s own owner. Heartbeats and log chunks are not events; a change of status that a heartbeat brings is. Names what it speaks of without foreign keys, since it outlives them.';

COMMENT ON COLUMN public.audit_events.id IS 'Order of writing.';

COMMENT ON COLUMN public.audit_events.at IS 'When it happened.';

COMMENT ON COLUMN public.audit_events.action IS 'What was done: cluster_registered, cluster_options_set, cluster_online, cluster_offline, token_rotated, token_revoked, agent_registered, configuration_saved, provision_created, cancel_requested, provision_claimed, provision_ended, lease_reaped, verdict_withdrawn, late_result_kept, logs_pruned, jwt_secret_set.';

COMMENT ON COLUMN public.audit_events.actor IS 'Who did it: an agent, an owner, the service (service_role, or SQL without a request), or the system: what the passage of time brings about, whoever''s call noticed it.';

COMMENT ON COLUMN public.audit_events.user_id IS 'The signed-in user, for an owner''s act.';

COMMENT ON COLUMN public.audit_events.agent_id IS 'The agent, as far as it says who it is.';

COMMENT ON COLUMN public.audit_events.cluster_id IS 'Done to this cluster; the owner of it may read.';

COMMENT ON COLUMN public.audit_events.provision_id IS 'Done to this provision.';

COMMENT ON COLUMN public.audit_events.request_cluster_id IS 'The request''s header X-Cluster-ID: what the sender said, not what was proved.';

COMMENT ON COLUMN public.audit_events.token_fingerprint IS 'At most 12 hex digits of the request''s header X-Agent-Token; compare with cluster_tokens.fingerprint. No other part of the headers is ever kept.';

COMMENT ON COLUMN public.audit_events.detail IS 'What else there is to say; never a secret.';

ALTER TABLE public.audit_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.cluster_tokens (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    cluster_id uuid NOT NULL,
    verifier bytea NOT NULL,
    fingerprint text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    CONSTRAINT cluster_tokens_fingerprint_check CHECK ((fingerprint ~ '^[0-9a-f]{12}$'::text)),
    CONSTRAINT cluster_tokens_verifier_check CHECK ((length(verifier) = 32))
);

COMMENT ON TABLE public.cluster_tokens IS 'What agents'' tokens are checked against. Two may be live at once, for rotation.';

COMMENT ON COLUMN public.cluster_tokens.id IS 'Names the token without revealing it.';

COMMENT ON COLUMN public.cluster_tokens.cluster_id IS 'The cluster it speaks for.';

COMMENT ON COLUMN public.cluster_tokens.verifier IS 'sha256 of the text that agents send, which is hex(sha256(token)): who steals this table can impersonate nobody.';

COMMENT ON COLUMN public.cluster_tokens.fingerprint IS 'First 12 hex digits of that text: tells which token an audit event speaks of, useless to a thief.';

COMMENT ON COLUMN public.cluster_tokens.created_at IS 'When it was made.';

COMMENT ON COLUMN public.cluster_tokens.expires_at IS 'Refused from then on; null: never.';

COMMENT ON COLUMN public.cluster_tokens.revoked_at IS 'Refused from then on; null: not revoked.';

COMMENT ON COLUMN public.cluster_tokens.last_used_at IS 'Last heartbeat that carried it, to within a minute.';

CREATE TABLE public.provision_leases (
    provision_id uuid NOT NULL,
    cluster_id uuid NOT NULL,
    stack_key text NOT NULL,
    attempt integer NOT NULL,
    agent_id uuid,
    claim_id uuid NOT NULL,
    phase text DEFAULT 'PREPARE'::text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    slot integer,
    CONSTRAINT provision_leases_phase_check CHECK ((phase = ANY (ARRAY['PREPARE'::text, 'PLAN'::text, 'APPLY'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='100');

COMMENT ON TABLE public.provision_leases IS 'One row per running provision; no other provision of its stack can start while it exists. Rewritten by every heartbeat, hence small, unpublished and without an index on expires_at.';

COMMENT ON COLUMN public.provision_leases.provision_id IS 'The provision that runs.';

COMMENT ON COLUMN public.provision_leases.cluster_id IS 'Where it runs; counts to max_concurrency.';

COMMENT ON COLUMN public.provision_leases.stack_key IS 'The stack that it reserves.';

COMMENT ON COLUMN public.provision_leases.attempt IS 'With agent_id the fencing token: calls with another are refused.';

COMMENT ON COLUMN public.provision_leases.agent_id IS 'Who runs it; null: a client that sends no agent id.';

COMMENT ON COLUMN public.provision_leases.claim_id IS 'The claim that made it; the same claim repeated gets the same answer.';

COMMENT ON COLUMN public.provision_leases.phase IS 'How far the attempt is; never goes back. An attempt in APPLY is never repeated.';

COMMENT ON COLUMN public.provision_leases.expires_at IS 'The agent is silent from then on. Not yet dead: it may still renew while the row exists.';

COMMENT ON COLUMN public.provision_leases.slot IS 'Which of the cluster''s slots, 1 to max_concurrency, the claim took. Beyond the limit: a greater one, after the limit was lowered, or null: taken up again (take_up_lease), or claimed before slots had numbers. While there is such a lease, claims take turns (slot_in_turn).';

CREATE TABLE public.provision_logs (
    id bigint NOT NULL,
    provision_id uuid NOT NULL,
    attempt integer NOT NULL,
    seq integer NOT NULL,
    byte_offset bigint NOT NULL,
    stream_type text NOT NULL,
    log_chunk text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT provision_logs_attempt_check CHECK ((attempt > 0)),
    CONSTRAINT provision_logs_byte_offset_check CHECK ((byte_offset >= 0)),
    CONSTRAINT provision_logs_log_chunk_check CHECK ((octet_length(log_chunk) <= 65536)),
    CONSTRAINT provision_logs_seq_check CHECK ((seq >= 0)),
    CONSTRAINT provision_logs_stream_type_check CHECK ((stream_type = ANY (ARRAY['STDOUT'::text, 'STDERR'::text, 'SYSTEM'::text])))
);

COMMENT ON TABLE public.provision_logs IS 'Append-only; no holes: seq counts from 0 and byte_offset adds up. Show in order of (attempt, seq).';

COMMENT ON COLUMN public.provision_logs.id IS 'Needed by Realtime; says nothing about order.';

COMMENT ON COLUMN public.provision_logs.provision_id IS 'Whose output.';

COMMENT ON COLUMN public.provision_logs.attempt IS 'Of which attempt.';

COMMENT ON COLUMN public.provision_logs.seq IS 'Position in the attempt, over all streams; order of arrival is order of display.';

COMMENT ON COLUMN public.provision_logs.byte_offset IS 'Bytes (UTF-8) of log_chunk in all earlier chunks of the attempt.';

COMMENT ON COLUMN public.provision_logs.stream_type IS 'STDOUT, STDERR, or SYSTEM for what the agent itself says.';

COMMENT ON COLUMN public.provision_logs.log_chunk IS 'Text, at most 64 KiB; not cut at lines.';

COMMENT ON COLUMN public.provision_logs.created_at IS 'When it was stored.';

ALTER TABLE public.provision_logs ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.provision_logs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE public.provisions ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.provisions_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE tendril_private.settings (
    one_row boolean DEFAULT true NOT NULL,
    lease_ttl interval DEFAULT '00:01:30'::interval NOT NULL,
    reap_grace interval DEFAULT '00:00:15'::interval NOT NULL,
    lost_after interval DEFAULT '00:15:00'::interval NOT NULL,
    retry_base interval DEFAULT '00:00:05'::interval NOT NULL,
    retry_cap interval DEFAULT '00:10:00'::interval NOT NULL,
    offline_after interval DEFAULT '00:01:30'::interval NOT NULL,
    beat_coalescing interval DEFAULT '00:00:20'::interval NOT NULL,
    sweep_every interval DEFAULT '00:00:05'::interval NOT NULL,
    outage_after interval DEFAULT '00:00:45'::interval NOT NULL,
    log_retention interval DEFAULT '30 days'::interval NOT NULL,
    CONSTRAINT settings_beat_coalescing_check CHECK ((beat_coalescing >= '00:00:00'::interval)),
    CONSTRAINT settings_lease_ttl_check CHECK ((lease_ttl > '00:00:00'::interval)),
    CONSTRAINT settings_log_retention_check CHECK ((log_retention > '00:00:00'::interval)),
    CONSTRAINT settings_lost_after_check CHECK ((lost_after >= '00:00:00'::interval)),
    CONSTRAINT settings_offline_after_check CHECK ((offline_after > '00:00:00'::interval)),
    CONSTRAINT settings_one_row_check CHECK (one_row),
    CONSTRAINT settings_outage_after_check CHECK ((outage_after > '00:00:00'::interval)),
    CONSTRAINT settings_reap_grace_check CHECK ((reap_grace >= '00:00:00'::interval)),
    CONSTRAINT settings_retry_base_check CHECK ((retry_base >= '00:00:00'::interval)),
    CONSTRAINT settings_retry_cap_check CHECK ((retry_cap >= '00:00:00'::interval)),
    CONSTRAINT settings_sweep_every_check CHECK ((sweep_every >= '00:00:00'::interval))
);

COMMENT ON TABLE tendril_private.settings IS 'The one place of every duration; one row. Change it with UPDATE, it holds from the next call on.';

COMMENT ON COLUMN tendril_private.settings.one_row IS 'Keeps the table at one row.';

COMMENT ON COLUMN tendril_private.settings.lease_ttl IS 'How long a lease lives after a claim or a heartbeat. Agents beat every 30 s.';

COMMENT ON COLUMN tendril_private.settings.reap_grace IS 'How long an expired lease of phase PREPARE or PLAN is left alone before it is requeued.';

COMMENT ON COLUMN tendril_private.settings.lost_after IS 'How long an expired lease of phase APPLY is left alone before its provision is FAILED.';

COMMENT ON COLUMN tendril_private.settings.retry_base IS 'Wait before attempt 2, give or take a quarter; doubles with each further attempt.';

COMMENT ON COLUMN tendril_private.settings.retry_cap IS 'Longest wait between two attempts.';

COMMENT ON COLUMN tendril_private.settings.offline_after IS 'Silence after which a cluster is OFFLINE.';

COMMENT ON COLUMN tendril_private.settings.beat_coalescing IS 'A published cluster row is rewritten by heartbeats at most this often.';

COMMENT ON COLUMN tendril_private.settings.sweep_every IS 'Heartbeats look for silent agents of other clusters at most this often, all together.';

COMMENT ON COLUMN tendril_private.settings.outage_after IS 'When no agent at all has been heard for so long, it is the control plane that was away: nobody is reaped for one lease_ttl. Longer than the 30 s between two beats of a lone agent, and so short that an outage which goes unnoticed kills no lease: 30 s since the last beat, this, and 30 s until the next beat do not exceed lease_ttl + reap_grace.';

COMMENT ON COLUMN tendril_private.settings.log_retention IS 'How long pg_cron, where it exists, keeps the logs of ended provisions.';

CREATE VIEW tendril_private.dead_leases AS
 SELECT l.provision_id,
    l.cluster_id
   FROM (public.provision_leases l
     CROSS JOIN tendril_private.settings s)
  WHERE (s.one_row AND (l.expires_at < (clock_timestamp() -
        CASE l.phase
            WHEN 'APPLY'::text THEN s.lost_after
            ELSE s.reap_grace
        END)));

COMMENT ON VIEW tendril_private.dead_leases IS 'Leases silent for so long that their attempt is given up.';

COMMENT ON COLUMN tendril_private.dead_leases.provision_id IS 'The provision.';

COMMENT ON COLUMN tendril_private.dead_leases.cluster_id IS 'Its cluster.';

CREATE TABLE tendril_private.jwt_secrets (
    one_row boolean DEFAULT true NOT NULL,
    secret text NOT NULL,
    CONSTRAINT jwt_secrets_one_row_check CHECK (one_row),
    CONSTRAINT jwt_secrets_secret_check CHECK ((secret <> ''::text))
);

COMMENT ON TABLE tendril_private.jwt_secrets IS 'The project''s shared JWT secret; empty where none is configured.';

COMMENT ON COLUMN tendril_private.jwt_secrets.one_row IS 'Keeps the table at one row.';

COMMENT ON COLUMN tendril_private.jwt_secrets.secret IS 'HS256 key as text, exactly as the project shows it.';

CREATE TABLE tendril_private.lost_leases (
    provision_id uuid NOT NULL,
    cluster_id uuid NOT NULL,
    stack_key text NOT NULL,
    attempt integer NOT NULL,
    agent_id uuid,
    claim_id uuid NOT NULL
);

COMMENT ON TABLE tendril_private.lost_leases IS 'The lease of each attempt that was given up in APPLY, for as long as that verdict is provisional: the row goes when the attempt is taken up again, or a later provision of its stack begins.';

COMMENT ON COLUMN tendril_private.lost_leases.provision_id IS 'As in provision_leases.';

COMMENT ON COLUMN tendril_private.lost_leases.cluster_id IS 'As in provision_leases.';

COMMENT ON COLUMN tendril_private.lost_leases.stack_key IS 'As in provision_leases; not reserved.';

COMMENT ON COLUMN tendril_private.lost_leases.attempt IS 'As in provision_leases.';

COMMENT ON COLUMN tendril_private.lost_leases.agent_id IS 'As in provision_leases.';

COMMENT ON COLUMN tendril_private.lost_leases.claim_id IS 'As in provision_leases.';

CREATE TABLE tendril_private.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE tendril_private.schema_migrations IS 'Which files of sql/migrations are applied; written by "grape migrate" and the embedded plane.';

COMMENT ON COLUMN tendril_private.schema_migrations.version IS 'The number in the file''s name.';

COMMENT ON COLUMN tendril_private.schema_migrations.name IS 'The file''s name.';

COMMENT ON COLUMN tendril_private.schema_migrations.sha256 IS 'Of the file''s bytes, in hex.';

COMMENT ON COLUMN tendril_private.schema_migrations.applied_at IS 'When it was applied.';

CREATE TABLE tendril_private.sweeps (
    one_row boolean DEFAULT true NOT NULL,
    swept_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    paused_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT sweeps_one_row_check CHECK (one_row)
)
WITH (fillfactor='50');

COMMENT ON TABLE tendril_private.sweeps IS 'When agents were last heard and all clusters swept; one row, apart from the settings because it is hot.';

COMMENT ON COLUMN tendril_private.sweeps.one_row IS 'Keeps the table at one row.';

COMMENT ON COLUMN tendril_private.sweeps.swept_at IS 'Last sign of life of any agent, to within settings.sweep_every; each is also a sweep.';

COMMENT ON COLUMN tendril_private.sweeps.paused_until IS 'Nobody is reaped before then: the control plane itself was away.';

ALTER TABLE ONLY public.agents
    ADD CONSTRAINT agents_pkey PRIMARY KEY (cluster_id, id);

ALTER TABLE ONLY public.audit_events
    ADD CONSTRAINT audit_events_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.cluster_tokens
    ADD CONSTRAINT cluster_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.clusters
    ADD CONSTRAINT clusters_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.configurations
    ADD CONSTRAINT configurations_cluster_id_name_key UNIQUE (cluster_id, name);

ALTER TABLE ONLY public.configurations
    ADD CONSTRAINT configurations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.provision_leases
    ADD CONSTRAINT provision_leases_claim_id_key UNIQUE (claim_id);

ALTER TABLE ONLY public.provision_leases
    ADD CONSTRAINT provision_leases_pkey PRIMARY KEY (provision_id);

ALTER TABLE ONLY public.provision_logs
    ADD CONSTRAINT provision_logs_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.provision_logs
    ADD CONSTRAINT provision_logs_provision_id_attempt_seq_key UNIQUE (provision_id, attempt, seq);

ALTER TABLE ONLY public.provisions
    ADD CONSTRAINT provisions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY tendril_private.jwt_secrets
    ADD CONSTRAINT jwt_secrets_pkey PRIMARY KEY (one_row);

ALTER TABLE ONLY tendril_private.lost_leases
    ADD CONSTRAINT lost_leases_pkey PRIMARY KEY (provision_id);

ALTER TABLE ONLY tendril_private.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY tendril_private.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (one_row);

ALTER TABLE ONLY tendril_private.sweeps
    ADD CONSTRAINT sweeps_pkey PRIMARY KEY (one_row);

CREATE INDEX audit_events_cluster ON public.audit_events USING btree (cluster_id, id);

CREATE INDEX cluster_tokens_cluster ON public.cluster_tokens USING btree (cluster_id);

CREATE UNIQUE INDEX cluster_tokens_verifier ON public.cluster_tokens USING btree (verifier, cluster_id);

CREATE INDEX clusters_owner ON public.clusters USING btree (((user_id)::text));

CREATE INDEX configurations_owner ON public.configurations USING btree (((user_id)::text));

CREATE UNIQUE INDEX provision_leases_slot ON public.provision_leases USING btree (cluster_id, slot);

CREATE UNIQUE INDEX provision_leases_stack ON public.provision_leases USING btree (stack_key);

CREATE INDEX provisions_history ON public.provisions USING btree (cluster_id, created_at DESC);

CREATE INDEX provisions_queue ON public.provisions USING btree (cluster_id, seq) WHERE (status = 'QUEUED'::text);

CREATE INDEX provisions_stack_queue ON public.provisions USING btree (cluster_id, stack_key, seq) WHERE (status = 'QUEUED'::text);

CREATE INDEX provisions_unpruned ON public.provisions USING btree (completed_at) WHERE ((completed_at IS NOT NULL) AND (logs_pruned_at IS NULL));

CREATE INDEX lost_leases_cluster ON tendril_private.lost_leases USING btree (cluster_id);

CREATE INDEX lost_leases_stack ON tendril_private.lost_leases USING btree (stack_key);

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_events FOR EACH STATEMENT EXECUTE FUNCTION tendril_private.refuse_rewriting();

COMMENT ON TRIGGER append_only ON public.audit_events IS 'Privileges bind the API''s roles; this binds the table''s owner as well.';

CREATE TRIGGER audit_request AFTER INSERT ON public.provisions FOR EACH ROW WHEN ((COALESCE(current_setting('request.jwt.claims'::text, true), ''::text) <> ''::text)) EXECUTE FUNCTION tendril_private.audit_request();

COMMENT ON TRIGGER audit_request ON public.provisions IS 'What comes through the API is written down.';

CREATE TRIGGER check_signature BEFORE INSERT ON public.provisions FOR EACH ROW WHEN ((new.signature IS NOT NULL)) EXECUTE FUNCTION tendril_private.check_signature();

COMMENT ON TRIGGER check_signature ON public.provisions IS 'Too long for a signature is refused with a status of its own.';

CREATE TRIGGER echo_heartbeat AFTER INSERT OR UPDATE OF last_seen ON public.agents FOR EACH ROW EXECUTE FUNCTION tendril_private.echo_heartbeat();

COMMENT ON TRIGGER echo_heartbeat ON public.agents IS 'What an agent must hear after its heartbeat; else its channel is deaf.';

CREATE TRIGGER legal_moves BEFORE UPDATE OF status ON public.provisions FOR EACH ROW EXECUTE FUNCTION tendril_private.refuse_move();

COMMENT ON TRIGGER legal_moves ON public.provisions IS 'QUEUED to PROCESSING or CANCELLED; PROCESSING to a terminal status, or back to QUEUED when its agent was lost before APPLY; terminal statuses never change, but for one: a verdict on an agent that was silent in APPLY is withdrawn when that attempt is heard again (take_up_lease).';

CREATE TRIGGER prepare_provision BEFORE INSERT ON public.provisions FOR EACH ROW EXECUTE FUNCTION tendril_private.prepare_provision();

COMMENT ON TRIGGER prepare_provision ON public.provisions IS 'Every provision starts QUEUED.';

CREATE TRIGGER validate_request BEFORE INSERT ON public.provisions FOR EACH ROW WHEN ((COALESCE(current_setting('request.jwt.claims'::text, true), ''::text) <> ''::text)) EXECUTE FUNCTION tendril_private.validate_request();

COMMENT ON TRIGGER validate_request ON public.provisions IS 'What comes through the API is checked, whether by create_provision or by a direct insert.';

CREATE TRIGGER wait_for_claims BEFORE UPDATE OF max_concurrency, drain ON public.clusters FOR EACH ROW WHEN (((new.max_concurrency < old.max_concurrency) OR (new.drain > old.drain))) EXECUTE FUNCTION tendril_private.wait_for_claims();

COMMENT ON TRIGGER wait_for_claims ON public.clusters IS 'A lowered limit holds from the moment that it is to be seen: no claim is on its way under the old one.';

CREATE TRIGGER wake_on_change AFTER UPDATE OF status, cancel_requested_at, force_cancel_requested_at ON public.provisions FOR EACH ROW WHEN ((((new.status = 'QUEUED'::text) AND (old.status <> 'QUEUED'::text)) OR (new.cancel_requested_at IS DISTINCT FROM old.cancel_requested_at) OR (new.force_cancel_requested_at IS DISTINCT FROM old.force_cancel_requested_at))) EXECUTE FUNCTION tendril_private.wake_agents();

COMMENT ON TRIGGER wake_on_change ON public.provisions IS 'It is queued again, or it is to be cancelled.';

CREATE TRIGGER wake_on_options AFTER UPDATE OF drain, max_concurrency ON public.clusters FOR EACH ROW WHEN (((new.drain <> old.drain) OR (new.max_concurrency <> old.max_concurrency))) EXECUTE FUNCTION tendril_private.wake_agents();

COMMENT ON TRIGGER wake_on_options ON public.clusters IS 'Its agents may take more, or shall take less.';

CREATE TRIGGER wake_on_release AFTER DELETE ON public.provision_leases FOR EACH ROW EXECUTE FUNCTION tendril_private.wake_agents();

COMMENT ON TRIGGER wake_on_release ON public.provision_leases IS 'Its stack is free, and a place in the cluster.';

CREATE TRIGGER wake_on_submission AFTER INSERT ON public.provisions FOR EACH ROW EXECUTE FUNCTION tendril_private.wake_agents();

COMMENT ON TRIGGER wake_on_submission ON public.provisions IS 'There is something to claim. Only where Supabase''s schema "realtime" is, like each wakeup.';

ALTER TABLE ONLY public.agents
    ADD CONSTRAINT agents_cluster_id_fkey FOREIGN KEY (cluster_id) REFERENCES public.clusters(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.cluster_tokens
    ADD CONSTRAINT cluster_tokens_cluster_id_fkey FOREIGN KEY (cluster_id) REFERENCES public.clusters(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.configurations
    ADD CONSTRAINT configurations_cluster_id_fkey FOREIGN KEY (cluster_id) REFERENCES public.clusters(id);

ALTER TABLE ONLY public.provision_leases
    ADD CONSTRAINT provision_leases_provision_id_fkey FOREIGN KEY (provision_id) REFERENCES public.provisions(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.provision_logs
    ADD CONSTRAINT provision_logs_provision_id_fkey FOREIGN KEY (provision_id) REFERENCES public.provisions(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.provisions
    ADD CONSTRAINT provisions_cluster_id_fkey FOREIGN KEY (cluster_id) REFERENCES public.clusters(id);

ALTER TABLE ONLY tendril_private.lost_leases
    ADD CONSTRAINT lost_leases_provision_id_fkey FOREIGN KEY (provision_id) REFERENCES public.provisions(id) ON DELETE CASCADE;

CREATE POLICY agent_listens ON public.provisions FOR SELECT TO anon USING (((cluster_id)::text = ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'cluster_id'::text)));

COMMENT ON POLICY agent_listens ON public.provisions IS 'The holder of agent_realtime_token hears of provisions of its cluster. Compared as text: a cast of the claim would let one malformed token break the poller for every subscriber.';

ALTER TABLE public.agents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.audit_events ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cluster_tokens ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.clusters ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.configurations ENABLE ROW LEVEL SECURITY;

CREATE POLICY owner_reads ON public.agents FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = agents.cluster_id))));

COMMENT ON POLICY owner_reads ON public.agents IS 'Owners see the agents of the clusters that they see.';

CREATE POLICY owner_reads ON public.audit_events FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = audit_events.cluster_id))));

COMMENT ON POLICY owner_reads ON public.audit_events IS 'Owners see what was done to the clusters that they see.';

CREATE POLICY owner_reads ON public.cluster_tokens FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = cluster_tokens.cluster_id))));

COMMENT ON POLICY owner_reads ON public.cluster_tokens IS 'Owners see the tokens of the clusters that they see.';

CREATE POLICY owner_reads ON public.clusters FOR SELECT TO authenticated USING (((user_id)::text = ( SELECT ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'sub'::text))));

COMMENT ON POLICY owner_reads ON public.clusters IS 'Owners see their own clusters.';

CREATE POLICY owner_reads ON public.configurations FOR SELECT TO authenticated USING (((user_id)::text = ( SELECT ((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::jsonb ->> 'sub'::text))));

COMMENT ON POLICY owner_reads ON public.configurations IS 'Owners see their own configurations.';

CREATE POLICY owner_reads ON public.provision_leases FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = provision_leases.cluster_id))));

COMMENT ON POLICY owner_reads ON public.provision_leases IS 'Owners see the leases of the clusters that they see.';

CREATE POLICY owner_reads ON public.provision_logs FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.provisions p
  WHERE (p.id = provision_logs.provision_id))));

COMMENT ON POLICY owner_reads ON public.provision_logs IS 'Owners see the logs of the provisions that they see.';

CREATE POLICY owner_reads ON public.provisions FOR SELECT TO authenticated USING ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = provisions.cluster_id))));

COMMENT ON POLICY owner_reads ON public.provisions IS 'Owners see the provisions of the clusters that they see.';

CREATE POLICY owner_submits ON public.provisions FOR INSERT TO authenticated WITH CHECK ((EXISTS ( SELECT
   FROM public.clusters c
  WHERE (c.id = provisions.cluster_id))));

COMMENT ON POLICY owner_submits ON public.provisions IS 'Owners queue provisions for the clusters that they see.';

ALTER TABLE public.provision_leases ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.provision_logs ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.provisions ENABLE ROW LEVEL SECURITY;

GRANT USAGE ON SCHEMA public TO anon;
GRANT USAGE ON SCHEMA public TO authenticated;
GRANT USAGE ON SCHEMA public TO service_role;

GRANT USAGE ON SCHEMA tendril_private TO service_role;

REVOKE ALL ON FUNCTION public.agent_heartbeat(p_cluster_id uuid, p_token_hash text, p_agent jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.agent_heartbeat(p_cluster_id uuid, p_token_hash text, p_agent jsonb) TO anon;

REVOKE ALL ON FUNCTION public.agent_realtime_token(p_cluster_id uuid, p_token_hash text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.agent_realtime_token(p_cluster_id uuid, p_token_hash text) TO anon;

REVOKE ALL ON FUNCTION public.cancel_provision(p_provision_id uuid, p_force boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cancel_provision(p_provision_id uuid, p_force boolean) TO authenticated;

GRANT SELECT ON TABLE public.provisions TO authenticated;
GRANT SELECT ON TABLE public.provisions TO service_role;

GRANT SELECT(id) ON TABLE public.provisions TO anon;

GRANT INSERT(cluster_id) ON TABLE public.provisions TO authenticated;
GRANT INSERT(cluster_id) ON TABLE public.provisions TO service_role;
GRANT SELECT(cluster_id) ON TABLE public.provisions TO anon;

GRANT INSERT(configuration_id) ON TABLE public.provisions TO authenticated;
GRANT INSERT(configuration_id) ON TABLE public.provisions TO service_role;

GRANT INSERT(operation) ON TABLE public.provisions TO authenticated;
GRANT INSERT(operation) ON TABLE public.provisions TO service_role;

GRANT INSERT(config_snapshot) ON TABLE public.provisions TO authenticated;
GRANT INSERT(config_snapshot) ON TABLE public.provisions TO service_role;

GRANT INSERT(configuration_hash) ON TABLE public.provisions TO authenticated;
GRANT INSERT(configuration_hash) ON TABLE public.provisions TO service_role;

GRANT SELECT(status) ON TABLE public.provisions TO anon;

GRANT SELECT(created_at) ON TABLE public.provisions TO anon;

GRANT INSERT(signature) ON TABLE public.provisions TO authenticated;
GRANT INSERT(signature) ON TABLE public.provisions TO service_role;

REVOKE ALL ON FUNCTION public.create_provision(p_cluster_id uuid, p_config_snapshot jsonb, p_configuration_hash text, p_operation text, p_configuration_id uuid, p_signature text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.create_provision(p_cluster_id uuid, p_config_snapshot jsonb, p_configuration_hash text, p_operation text, p_configuration_id uuid, p_signature text) TO authenticated;

REVOKE ALL ON FUNCTION public.fetch_next_provision(p_cluster_id uuid, p_token_hash text, p_agent_id uuid, p_claim_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.fetch_next_provision(p_cluster_id uuid, p_token_hash text, p_agent_id uuid, p_claim_id uuid) TO anon;

REVOKE ALL ON FUNCTION public.insert_provision_log(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_log_chunk text, p_stream_type text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.insert_provision_log(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_log_chunk text, p_stream_type text) TO anon;

REVOKE ALL ON FUNCTION public.insert_provision_logs(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_attempt integer, p_agent_id uuid, p_first_seq integer, p_chunks jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.insert_provision_logs(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_attempt integer, p_agent_id uuid, p_first_seq integer, p_chunks jsonb) TO anon;

REVOKE ALL ON FUNCTION public.mark_offline_clusters(p_at_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.mark_offline_clusters(p_at_most integer) TO service_role;

REVOKE ALL ON FUNCTION public.prune_logs(p_older_than interval, p_at_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.prune_logs(p_older_than interval, p_at_most integer) TO service_role;

REVOKE ALL ON FUNCTION public.queue_depth(p_cluster_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.queue_depth(p_cluster_id uuid) TO authenticated;
GRANT ALL ON FUNCTION public.queue_depth(p_cluster_id uuid) TO service_role;

REVOKE ALL ON FUNCTION public.reap_leases(p_at_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.reap_leases(p_at_most integer) TO service_role;

REVOKE ALL ON FUNCTION public.register_cluster(p_name text, p_max_concurrency integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.register_cluster(p_name text, p_max_concurrency integer) TO authenticated;

REVOKE ALL ON FUNCTION public.revoke_cluster_token(p_token_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.revoke_cluster_token(p_token_id uuid) TO authenticated;

REVOKE ALL ON FUNCTION public.rotate_cluster_token(p_cluster_id uuid, p_expires_at timestamp with time zone, p_old_expires_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rotate_cluster_token(p_cluster_id uuid, p_expires_at timestamp with time zone, p_old_expires_at timestamp with time zone) TO authenticated;

GRANT SELECT ON TABLE public.configurations TO authenticated;
GRANT SELECT ON TABLE public.configurations TO service_role;

REVOKE ALL ON FUNCTION public.save_configuration(p_cluster_id uuid, p_name text, p_config_snapshot jsonb, p_configuration_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.save_configuration(p_cluster_id uuid, p_name text, p_config_snapshot jsonb, p_configuration_id uuid) TO authenticated;

REVOKE ALL ON FUNCTION public.set_cluster_options(p_cluster_id uuid, p_max_concurrency integer, p_drain boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.set_cluster_options(p_cluster_id uuid, p_max_concurrency integer, p_drain boolean) TO authenticated;

REVOKE ALL ON FUNCTION public.update_provision_status(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_execution_metadata jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.update_provision_status(p_cluster_id uuid, p_token_hash text, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_execution_metadata jsonb) TO anon;

REVOKE ALL ON FUNCTION tendril_private.attach_realtime() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.audit(p_action text, p_cluster_id uuid, p_provision_id uuid, p_detail jsonb, p_agent_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.audit_request() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.audit_system(p_action text, p_cluster_id uuid, p_provision_id uuid, p_detail jsonb, p_agent_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.authenticate(p_cluster_id uuid, p_token_hash text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.base64url(p_bytes bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.broadcast(p_cluster_id uuid, p_event text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.caller() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.cancel_level(p_requested timestamp with time zone, p_forced timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.check_agent(p_agent jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.check_chunks(p_first_seq integer, p_chunks jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.check_log_complete(p_provision_id uuid, p_attempt integer, p_log_chunks integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.check_signature() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.check_snapshot(p_snapshot jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.claim_key(p_claim_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.echo_heartbeat() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.gate_key(p_cluster_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.hash_of(p_token text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.hear_agent() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.hmac_sha256(p_message bytea, p_key bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.is_uuid(p_text text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.issue_token(p_cluster_id uuid, p_expires_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.lock_lease(p_cluster_id uuid, p_provision_id uuid, p_attempt integer, p_agent_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.lock_log(p_provision_id uuid, p_attempt integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.log_end(p_provision_id uuid, p_attempt integer, OUT next_seq integer, OUT next_offset bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.mark_offline(p_at_most integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.may_reap() FROM PUBLIC;

GRANT SELECT ON TABLE public.clusters TO authenticated;
GRANT SELECT ON TABLE public.clusters TO service_role;

REVOKE ALL ON FUNCTION tendril_private.owned_cluster(p_cluster_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.prepare_provision() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.provision_key(p_provision_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.reap_cluster(p_cluster_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.reap_lease(p_provision_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.refuse_move() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.refuse_rewriting() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.register_agent(p_cluster_id uuid, p_agent jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.renew_leases(p_cluster_id uuid, p_agent_id uuid, p_leases jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.replay_claim(p_cluster_id uuid, p_agent_id uuid, p_claim_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.report_without_lease(p_cluster_id uuid, p_provision_id uuid, p_status text, p_error_message text, p_attempt integer, p_agent_id uuid, p_log_chunks integer, p_error_code text, p_metadata jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.schedule_upkeep() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.set_jwt_secret(p_secret text) FROM PUBLIC;
GRANT ALL ON FUNCTION tendril_private.set_jwt_secret(p_secret text) TO service_role;

REVOKE ALL ON FUNCTION tendril_private.side_by_side_from() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.sign_jwt(p_claims jsonb, p_secret text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.slot_in_turn(p_cluster_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.snapshot_fault(p_snapshot jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.snapshot_of(p_configuration public.configurations) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.sweep() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.take_up_lease(p_provision_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.turn_key(p_cluster_id uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.validate_request() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.verifier_of(p_token_hash text) FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.wait_for_claims() FROM PUBLIC;

REVOKE ALL ON FUNCTION tendril_private.wake_agents() FROM PUBLIC;

GRANT SELECT ON TABLE public.agents TO authenticated;
GRANT SELECT ON TABLE public.agents TO service_role;

GRANT SELECT ON TABLE public.audit_events TO authenticated;
GRANT SELECT ON TABLE public.audit_events TO service_role;

GRANT SELECT(id) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(id) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(cluster_id) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(cluster_id) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(fingerprint) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(fingerprint) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(created_at) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(created_at) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(expires_at) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(expires_at) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(revoked_at) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(revoked_at) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT(last_used_at) ON TABLE public.cluster_tokens TO authenticated;
GRANT SELECT(last_used_at) ON TABLE public.cluster_tokens TO service_role;

GRANT SELECT ON TABLE public.provision_leases TO authenticated;
GRANT SELECT ON TABLE public.provision_leases TO service_role;

GRANT SELECT ON TABLE public.provision_logs TO authenticated;
GRANT SELECT ON TABLE public.provision_logs TO service_role;

ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO anon;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO authenticated;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON SEQUENCES TO service_role;

ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON FUNCTIONS TO authenticated;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON FUNCTIONS TO service_role;

ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO anon;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO authenticated;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA public GRANT ALL ON TABLES TO service_role;
