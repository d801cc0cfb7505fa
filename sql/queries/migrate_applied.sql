select version, name, sha256 from tendril_private.schema_migrations order by version
