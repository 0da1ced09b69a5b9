"""The rows stay in the database, or in Spark, which is asked for aggregates."""
