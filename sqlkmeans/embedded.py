"""The URL of an embedded database, or its file alone, as people write it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlkmeans.errors import DefinitionError

#: DuckDB's name for a database that is in no file.
MEMORY = ":memory:"
_URL = re.compile(r"duckdb(?:\+\w+)?://(?:[^/?@]*@)?(?P<host>[^/?]*)(?:/(?P<path>[^?]*))?(?:\?.*)?")
#: How the name of a database's file ends, where it stands alone.
_DATABASE_FILES = (".duckdb", ".ddb", ".db")
#: What DuckDB would open as a view in a database in memory, where all results would be lost.
_DATA_FILES = {".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson", ".xlsx"}
#: Nothing that could be a password.
_PLAIN_PATH = re.compile(r"(?:[A-Za-z]:)?[\w .~/\\-]+")


def embedded_path(url: str | os.PathLike[str]) -> str | None:
    """The path of an embedded database; None for another URL.

    Raises
    ------
    DefinitionError
        For a slip, with the right spelling.
    """
    text = os.fspath(url)
    bare = "://" not in text and text.lower().endswith(_DATABASE_FILES)
    if bare or text == MEMORY or isinstance(url, os.PathLike):
        path, slashes = text, 3
    elif (embedded := _URL.fullmatch(text)) is not None:
        parts = [part for part in (embedded["host"], embedded["path"]) if part]
        path, slashes = "/".join(parts) or MEMORY, 2 if embedded["host"] else 3
    else:
        return None
    shown = path if path == MEMORY or _PLAIN_PATH.fullmatch(path) else "file.duckdb"
    if _DATA_FILES.intersection(suffix.lower() for suffix in Path(path).suffixes):
        raise DefinitionError(
            f"{shown} given as the database; allowed: a DuckDB file, such as "
            f'duckdb:///shop.duckdb. To cluster the rows of that file, write source = "{shown}"'
        )
    if slashes == 2:
        raise DefinitionError(
            f"duckdb:// with two slashes given; allowed: duckdb:///{shown}, with three"
        )
    return path


def beside(url: str, folder: Path) -> str:
    """The URL that a file in the folder means: a relative path is relative to the folder."""
    path = embedded_path(url)
    if path is None or path == MEMORY or folder == Path() or Path(path).is_absolute():
        return url
    return f"duckdb:///{(folder / path).as_posix()}"
