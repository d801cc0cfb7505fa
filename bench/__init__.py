"""Benchmarks: ``make bench B=<name>``; each prints a table and writes a JSON file."""
