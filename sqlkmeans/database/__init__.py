"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.connect import open_database
from sqlkmeans.database.interface import Counts, Database, Finding, Publication

__all__ = ["Counts", "Database", "Finding", "Publication", "open_database"]
