"""DuckDB: the embedded database, one file, one process that writes."""
