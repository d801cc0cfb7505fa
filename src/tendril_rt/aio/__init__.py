"""Small asynchronous tools without a word of the domain: backoff, wakeups, signals."""
