-- Wait for whoever migrates this database, then make the record of migrations if there is none.
select pg_advisory_xact_lock(hashtextextended('tendril migrate', 0));
create schema if not exists tendril_private;
create table if not exists tendril_private.schema_migrations (
  version int primary key,
  name text not null,
  sha256 text not null,
  applied_at timestamptz not null default now()
);
comment on table tendril_private.schema_migrations is
  'Which files of sql/migrations are applied; written by "grape migrate" and the embedded plane.';
comment on column tendril_private.schema_migrations.version is 'The number in the file''s name.';
comment on column tendril_private.schema_migrations.name is 'The file''s name.';
comment on column tendril_private.schema_migrations.sha256 is 'Of the file''s bytes, in hex.';
comment on column tendril_private.schema_migrations.applied_at is 'When it was applied.';
revoke all on tendril_private.schema_migrations from public;
