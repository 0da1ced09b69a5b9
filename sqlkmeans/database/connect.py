"""From a URL, or the file of an embedded database, to a database."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlkmeans.database.interface import Database
from sqlkmeans.errors import DefinitionError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

FORMS = "duckdb:///file.duckdb, mssql+mssqlpython://…, mssql+pyodbc://…"
#: DuckDB's name for a database that is in no file.
MEMORY = ":memory:"
_DUCKDB = re.compile(
    r"duckdb(?:\+\w+)?://(?:[^/?@]*@)?(?P<host>[^/?]*)(?:/(?P<path>[^?]*))?(?:\?.*)?"
)
#: How the name of an embedded database's file ends, where it stands alone.
_DATABASE_FILES = (".duckdb", ".ddb", ".db")
#: What DuckDB would open as a view in a database in memory, where all results would be lost.
_DATA_FILES = {".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson", ".xlsx"}
#: Nothing that could be a password.
_PLAIN_PATH = re.compile(r"(?:[A-Za-z]:)?[\w .~/\\-]+")


def open_database(
    url: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    files: Sequence[str] = (),
) -> Database:
    """Open the database at a SQLAlchemy URL.

    Parameters
    ----------
    url : str or path-like
        A URL, or the file of an embedded database: ``duckdb:///shop.duckdb`` or ``shop.duckdb``.
    create : bool, default=False
        Make an embedded database's file where there is none.
    read_only : bool, default=False
        Open an embedded database for reading only, beside other readers.
    files : sequence of str, default=()
        Paths of the .csv and .parquet files that sources will name: an embedded database reaches
        no others. `run`, `assign` and `choose_k` add those of their segmentation.

    Raises
    ------
    DefinitionError
        If the URL is not one of the forms allowed.
    DatabaseError
        If the database cannot be reached.
    LockedError
        If another process has the embedded database's file.
    """
    # Read here: to load SQLAlchemy, which DuckDB has no other use for, delays every command.
    if (path := _embedded(url)) is not None:
        from sqlkmeans.database.duckdb import DuckDBDatabase

        return DuckDBDatabase(path, create=create, read_only=read_only, files=files)
    url = os.fspath(url)
    parsed = _parse(url)
    backend = parsed.get_backend_name()
    if backend == "mssql":
        from sqlkmeans.database.sqlserver import SQLServerDatabase

        return SQLServerDatabase(parsed)
    raise DefinitionError(f"the URL's dialect {backend!r} given; allowed: {FORMS}")


def _embedded(url: str | os.PathLike[str]) -> str | None:
    """The path of an embedded database; None for another URL."""
    text = os.fspath(url)
    bare = "://" not in text and text.lower().endswith(_DATABASE_FILES)
    if bare or text == MEMORY or isinstance(url, os.PathLike):
        path, slashes = text, 3
    elif (embedded := _DUCKDB.fullmatch(text)) is not None:
        parts = [part for part in (embedded["host"], embedded["path"]) if part]
        path, slashes = "/".join(parts) or MEMORY, 2 if embedded["host"] else 3
    else:
        return None
    shown = path if path == MEMORY or _PLAIN_PATH.fullmatch(path) else "file.duckdb"
    if _DATA_FILES.intersection(suffix.lower() for suffix in Path(path).suffixes):
        raise DefinitionError(
            f"{shown} given as the database; allowed: a DuckDB file, such as "
            f"duckdb:///shop.duckdb. To cluster the rows of that file, write "
            f"source = \"SELECT * FROM '{shown}'\""
        )
    if slashes == 2:
        raise DefinitionError(
            f"duckdb:// with two slashes given; allowed: duckdb:///{shown}, with three"
        )
    return path


def _parse(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # The text is not shown: what cannot be parsed may hold a password anywhere.
        raise DefinitionError(f"the database URL cannot be read; allowed: {FORMS}") from None
