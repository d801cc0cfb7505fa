"""From no cloud to a managed cluster: what ``grape bootstrap`` does, step by step.

Identity in the cloud, infrastructure by Terraform on this machine, the agent in the cluster, its
first heartbeat. Every step looks at what is there and makes what is missing, so that a second run
changes nothing and an interrupted one completes; the journal holds only what cannot be looked up.
No secret is in an argv, a log or the journal: the agent's token goes into its Secret at once.

Knows no terminal and no argv (``cli/grape_bootstrap.py`` does), and nothing of the agent's inside.
"""
