"""What stands before the embedded Postgres: the manners of PostgREST and Realtime, not their rules.

Every answer is computed by Postgres, under the role and claims of the caller. Must never hold claim
logic, nor listen beyond loopback unless told so: it is for demos, development and tests.
"""
