"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.connect import open_database
from sqlkmeans.database.interface import Column, Counts, Database, Finding, Publication, Workspace

__all__ = [
    "Column",
    "Counts",
    "Database",
    "Finding",
    "Publication",
    "Workspace",
    "open_database",
]
