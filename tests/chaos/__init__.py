"""Chaos: real agents, Terraform and Postgres, hurt at random moments; judged from what is left.

``python -m tests.chaos --help``; docs/chaos.md says what is inflicted and what is judged.
"""
