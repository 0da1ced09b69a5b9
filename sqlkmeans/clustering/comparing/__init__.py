"""A run beside an earlier one: which segment is which, and what differs."""
