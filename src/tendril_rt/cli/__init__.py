"""The command lines: the composition root, and the only readers of argv and the environment."""
