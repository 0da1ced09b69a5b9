"""Arrays that may be larger than memory, chunks of them, and threads."""
