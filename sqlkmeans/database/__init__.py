"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.base import Counts, Database, Finding, Sources
from sqlkmeans.database.connect import find_session, open_database, open_places, open_sources

__all__ = [
    "Counts",
    "Database",
    "Finding",
    "Sources",
    "find_session",
    "open_database",
    "open_places",
    "open_sources",
]
