"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.base import Counts, Database, Finding
from sqlkmeans.database.connect import open_database

__all__ = ["Counts", "Database", "Finding", "open_database"]
