"""From a pipe to the control plane: read, redact, cut, spool, ship.

Forbidden here: Postgres, HTTP (the shipper is handed a sink), and any decision about a run.
"""
