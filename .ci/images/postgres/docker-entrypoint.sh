#!/bin/bash
# The part of the official image's entry point that a database made by POSTGRES_USER, POSTGRES_PASSWORD and
# POSTGRES_DB needs: initialise an empty PGDATA, then be the server.
set -euo pipefail

if [ "$1" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
  chown postgres "$PGDATA"
  exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  initdb --username="$user" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:?is not set}") \
    --auth-local=trust --auth-host=scram-sha-256 --no-sync
  printf 'host %s all all scram-sha-256\n' all replication >>"$PGDATA/pg_hba.conf"
  if [ "$database" != postgres ]; then
    pg_ctl --wait --options="-c listen_addresses=''" --log=/dev/null start
    createdb --username="$user" --maintenance-db=postgres "$database"
    pg_ctl --wait --mode=fast stop
  fi
  echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@"
