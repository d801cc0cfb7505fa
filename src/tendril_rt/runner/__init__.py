"""Directories and processes: what runs on this machine for one attempt.

Forbidden here: Postgres, HTTP, logs (output goes to whoever is handed the pipes).
"""
