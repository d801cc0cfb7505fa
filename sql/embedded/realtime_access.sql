-- What Realtime asks of Postgres, as functions of one connection: run once after connecting.
-- The rules are those of Supabase's walrus.

-- Return rows of a table, given as objects of texts, as to_jsonb words them; what was not given
-- stays away. Waits until new snapshots may see the transaction, which is streamed a moment before.
create function pg_temp.worded(p_schema name, p_table name, p_rows jsonb, p_xid text default '0')
returns jsonb language plpgsql as $$
declare
    v_worded jsonb := '{}';
    v_name text;
    v_texts jsonb;
    v_row jsonb;
begin
    while exists (select from pg_stat_activity where backend_xid = p_xid::xid) loop
        perform pg_sleep(0.001), pg_stat_clear_snapshot();
    end loop;
    for v_name, v_texts in select key, value from jsonb_each(p_rows) loop
        execute format('select to_jsonb(jsonb_populate_record(null::%I.%I, $1))', p_schema, p_table)
            into v_row using v_texts;
        select v_worded || jsonb_build_object(v_name, coalesce(jsonb_object_agg(key, value), '{}'))
            into v_worded from jsonb_each(v_row) where v_texts ? key;
    end loop;
    return v_worded;
end $$;

-- Return the columns that a role may read, in their order; null where the table is not published.
create function pg_temp.readable(p_schema name, p_table name, p_role name)
returns jsonb language sql as $$
    select coalesce(
        jsonb_agg(jsonb_build_object('name', a.attname, 'type', t.typname) order by a.attnum)
            filter (where has_column_privilege(p_role, a.attrelid, a.attnum, 'SELECT')),
        '[]'
    )
    from pg_publication_tables p
    join pg_attribute a on a.attrelid = format('%I.%I', p.schemaname, p.tablename)::regclass
        and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    where p.pubname = 'supabase_realtime' and p.schemaname = p_schema and p.tablename = p_table
    group by a.attrelid
$$;

-- Return the values that fit a filter, as worded does; null where the table is not published.
create function pg_temp.admitted(
    p_schema name, p_table name, p_role name, p_column text, p_values text[]
)
returns jsonb language plpgsql as $$
declare
    v_columns jsonb := pg_temp.readable(p_schema, p_table, p_role);
    v_rows jsonb;
begin
    if p_column is not null and not jsonb_path_exists(
        v_columns, '$[*] ? (@.name == $name)', jsonb_build_object('name', p_column)
    ) then
        raise 'invalid column for filter %', p_column;
    end if;
    select coalesce(jsonb_object_agg(v, jsonb_build_object(p_column, v)), '{}')
        into v_rows from unnest(p_values) as v;
    select coalesce(jsonb_agg(value -> p_column), '[]')
        into v_rows from jsonb_each(pg_temp.worded(p_schema, p_table, v_rows));
    return case when v_columns is not null then v_rows end;
end $$;

-- Return what a role with these claims may know of a change (p_rows: worded); null is nothing.
-- After a DELETE nobody can ask who might have seen the row: under policies its key is all.
create function pg_temp.event(
    p_schema name, p_table name, p_type text, p_committed_at text, p_rows jsonb,
    p_role name, p_claims text
)
returns jsonb language plpgsql as $$
declare
    v_table text := format('%I.%I', p_schema, p_table);
    v_has_policies boolean := (select relrowsecurity from pg_class where oid = v_table::regclass);
    v_columns jsonb := pg_temp.readable(p_schema, p_table, p_role);
    v_names text[] := array(select c ->> 'name' from jsonb_array_elements(v_columns) as c);
    v_key text[] := array(
        select a.attname from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = v_table::regclass and i.indisprimary
    );
    v_can_select boolean := true;
    v_max_bytes int;
    v_error text;
begin
    if p_type = 'DELETE' then
        if v_has_policies then
            v_names := array(select unnest(v_names) intersect select unnest(v_key));
        end if;
    elsif not v_names @> v_key then
        v_columns := '[]';
        v_names := '{}';
        v_error := 'Error 401: Unauthorized';
    elsif v_has_policies then
        perform set_config('role', p_role, true),
            set_config('request.jwt.claims', p_claims, true);
        execute format(
            'select exists (select from %1$s t, jsonb_populate_record(null::%1$s, $1) r '
            'where %2$s)',
            v_table, (select string_agg(format('t.%1$I = r.%1$I', k), ' and ') from unnest(v_key) k)
        ) into v_can_select using p_rows -> 'record';
    end if;
    if not v_can_select then
        return null;
    end if;
    if octet_length(p_rows::text) > 1024 * 1024 then
        v_max_bytes := 64;  -- of a value; larger ones are left out
        v_error := coalesce(v_error, 'Error 413: Payload Too Large');
    end if;
    select jsonb_object_agg(part, (
        select coalesce(jsonb_object_agg(key, value), '{}') from jsonb_each(fields)
        where key = any (v_names)
            and (v_max_bytes is null or octet_length(value::text) <= v_max_bytes)
    )) into p_rows from jsonb_each(p_rows) as rows (part, fields);
    return p_rows || jsonb_build_object(
        'schema', p_schema, 'table', p_table, 'type', p_type, 'commit_timestamp', p_committed_at,
        'columns', v_columns, 'errors', string_to_array(v_error, '')
    );
end $$;

-- Tell whether a role with these claims may listen to a private topic. Policies are asked as the real
-- server asks them: with a message that they may show, which is taken back at once.
create function pg_temp.may_listen(p_topic text, p_role name, p_claims text)
returns boolean language plpgsql as $$
declare
    v_id uuid;
    v_may boolean;
begin
    insert into realtime.messages (topic, extension) values (p_topic, 'broadcast')
        returning id into v_id;
    perform set_config('realtime.topic', p_topic, true),
        set_config('request.jwt.claims', p_claims, true), set_config('role', p_role, true);
    select exists (select from realtime.messages where id = v_id) into v_may;
    raise sqlstate 'TR001';
exception when sqlstate 'TR001' then
    return v_may;
end $$;

-- Return the last private messages of a topic since then, oldest first, at most 25.
create function pg_temp.replayed(p_topic text, p_since_ms bigint, p_limit bigint)
returns jsonb language sql as $$
    select coalesce(jsonb_agg(
        jsonb_build_object('id', id, 'event', event, 'payload', payload::text) order by inserted_at
    ), '[]')
    from (
        select * from realtime.messages
        where topic = p_topic and private and extension = 'broadcast'
            and event is not null and payload is not null
            and inserted_at >= to_timestamp(p_since_ms / 1000.0) at time zone 'utc'
        order by inserted_at desc
        limit least(greatest(p_limit, 1), 25)
    ) as last
$$;
