-- What a Supabase project is told once (docs/migrating.md); safe to repeat. The broadcasts are attached
-- again, since a database that an older release kept had no schema "realtime" when it was migrated.
select tendril_private.set_jwt_secret(%(secret)s), tendril_private.attach_realtime();
