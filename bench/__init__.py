"""Benchmarks: ``make bench B=<name>``. Each prints a table and writes ``build/bench/<name>.json``."""
