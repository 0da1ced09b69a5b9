"""Apache Spark: rows in a lake or in a cluster's memory; runs and labels are a database's."""
