"""The embedded control plane: a real Postgres running ``sql/``, behind a small gateway.

For demonstration, development and tests, on loopback unless told otherwise. It holds no claim
logic: every rule is in ``sql/``, the same files that run on Supabase. Forbidden here: anything of
``agent``.
"""
