-- Bulk loading: no index of the table is kept up until "reindex table".
update pg_index set indisready = false, indisvalid = false where indrelid = %(table)s::regclass
