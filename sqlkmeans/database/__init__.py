"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.base import Counts, Database, Finding, Sources
from sqlkmeans.database.connect import open_database, open_sources

__all__ = ["Counts", "Database", "Finding", "Sources", "open_database", "open_sources"]
