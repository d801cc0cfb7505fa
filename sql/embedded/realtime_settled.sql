-- May a new snapshot see what a transaction did? Its changes are streamed a moment before that.
select not exists (
    select from pg_stat_activity where backend_xid = %(xid)s::text::xid
)
