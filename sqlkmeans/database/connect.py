"""From a URL to a database."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from sqlkmeans.database.interface import Database
from sqlkmeans.errors import DefinitionError

FORMS = "duckdb:///file.duckdb, mssql+mssqlpython://…, mssql+pyodbc://…"


def open_database(url: str, *, create: bool = False, read_only: bool = False) -> Database:
    """Open the database at a SQLAlchemy URL.

    Parameters
    ----------
    url : str
    create : bool, default=False
        Make an embedded database's file where there is none.
    read_only : bool, default=False
        Open an embedded database for reading only, beside other readers.

    Raises
    ------
    DefinitionError
        If the URL is not one of the forms allowed.
    DatabaseError
        If the database cannot be reached.
    LockedError
        If another process has the embedded database's file.
    """
    parsed = _parse(url)
    backend = parsed.get_backend_name()
    if backend == "duckdb":
        from sqlkmeans.database.duckdb import DuckDBDatabase

        return DuckDBDatabase(parsed, create=create, read_only=read_only)
    if backend == "mssql":
        from sqlkmeans.database.sqlserver import SQLServerDatabase

        return SQLServerDatabase(parsed)
    raise DefinitionError(f"the URL's dialect {backend!r} given; allowed: {FORMS}")


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text is not shown: what cannot be parsed may hold a password anywhere.
        raise DefinitionError(f"the database URL cannot be read; allowed: {FORMS}") from None
