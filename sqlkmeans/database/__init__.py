"""All that talks to a live database: one interface, a file for each database."""

from sqlkmeans.database.base import Column, Counts, Database, Finding, Publication, Workspace
from sqlkmeans.database.connect import open_database

__all__ = [
    "Column",
    "Counts",
    "Database",
    "Finding",
    "Publication",
    "Workspace",
    "open_database",
]
