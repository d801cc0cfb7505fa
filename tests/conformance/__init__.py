"""The recorded answers of the real servers, replayed over ours and, where it can be had, theirs."""
