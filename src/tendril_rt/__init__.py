"""Tendril: a remote Terraform agent over Supabase. See ARCHITECTURE.md for the picture."""

__version__ = "0.1.0"
