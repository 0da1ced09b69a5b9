"""The rows stay in the database, which is asked for aggregates."""
