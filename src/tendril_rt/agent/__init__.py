"""The agent: the only place where control, runner and logs meet.

Intake claims, the lease keeper keeps the right to act, an attempt runs one provision to exactly one
outcome, the service holds them in one task group. Forbidden here: HTTP, SQL, starting processes.
"""
