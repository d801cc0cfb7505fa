"""The built image, as users run it: Postgres, control plane and agents on one container network."""
