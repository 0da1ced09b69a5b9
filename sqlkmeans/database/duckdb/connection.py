"""The one connection to a DuckDB file: how it is opened, and opened anew for other files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import duckdb

from sqlkmeans.database.duckdb import access, memory
from sqlkmeans.database.duckdb.statements import first_line
from sqlkmeans.errors import DatabaseError, DefinitionError, LockedError


class DuckDBConnection:
    """One connection for all, so that all is in the same transaction.

    Attributes
    ----------
    native : duckdb.DuckDBPyConnection
        Another one after :meth:`open_files`.
    limits : Limits
        What it may take of this process's memory.
    path : str
    stays : bool
        Whether it is a file.
    identity : str
        The same for all connections of this process to the same file.
    """

    def __init__(self, path: str, *, create: bool, read_only: bool, files: Sequence[str]) -> None:
        self.path, self._read_only = path, read_only
        self.stays = path != ":memory:"
        self.identity = str(_resolved(path)) if self.stays else uuid4().hex
        apart = read_only or not self.stays
        self._spill = access.SpillFolder.of(self.identity) if apart else None
        try:
            self._connect(files, create=create)
        except BaseException:
            self._remove_spilled()
            raise

    def _connect(self, files: Sequence[str], *, create: bool) -> None:
        self._files = tuple(files)
        self.native = _connect(
            self.path, create=create, read_only=self._read_only, spill=self._spill, files=files
        )
        self.limits = memory.Limits(self.native)

    def close(self) -> None:
        """End it. May be called twice."""
        self.native.close()
        self._remove_spilled()

    def _remove_spilled(self) -> None:
        if self._spill is not None:
            self._spill.remove()
            self._spill = None

    def open_files(self, source: str) -> None:
        """Let the files be read that a source names."""
        wanted = [file for file in access.files_of([source]) if file not in self._files]
        if not wanted:
            return
        if not self.stays and self.native.execute("SELECT 1 FROM duckdb_tables()").fetchone():
            raise DatabaseError(
                f"{', '.join(wanted)}: which files may be read is settled when a database in "
                f"memory is opened: open_database(url, files={wanted})"
            )
        # What is shut can only be shut otherwise by opening it anew.
        self.native.close()
        self._connect([*self._files, *wanted], create=False)


def _resolved(path: str) -> Path:
    try:
        found = Path(path).resolve()
        found.exists()
    except (OSError, ValueError):  # too long, or with a NUL in it
        raise DefinitionError(f"{path!r} given; allowed: a file's path") from None
    return found


def _connect(
    path: str,
    *,
    create: bool,
    read_only: bool,
    spill: access.SpillFolder | None,
    files: Sequence[str],
) -> duckdb.DuckDBPyConnection:
    if path != ":memory:" and not create and not Path(path).exists():
        raise DatabaseError(
            f"{path}: there is no such database file; `sqlkmeans install` makes one"
        )
    try:
        connection = duckdb.connect(path, read_only=read_only and path != ":memory:")
        memory.settle(connection)
        if spill is not None:
            spill.use(connection)
        access.shut(connection, files)
        return connection
    except duckdb.IOException as error:
        if "lock" in str(error).lower() or "being used by another process" in str(error):
            raise LockedError(
                f"{path}: another process has this database open{_holder(error)}, and DuckDB lets "
                "one process write; try again when it has finished. A notebook keeps it open until "
                "its connection.close()"
            ) from None
        raise DatabaseError(f"{path}: {first_line(error)}") from None
    except duckdb.ConnectionException as error:
        if "different configuration" in str(error):
            raise LockedError(
                f"{path}: this process has the database open already, for reading only or with "
                "other settings; close that connection first"
            ) from None
        raise DatabaseError(f"{path}: {first_line(error)}") from None
    except duckdb.Error as error:
        raise DatabaseError(f"{path}: {first_line(error)}") from None


def _holder(error: BaseException) -> str:
    """Which process holds a file, where DuckDB says it."""
    # On Linux and macOS: "held in /usr/bin/python3.11 (PID 42)"; on Windows the path stands alone.
    found = re.search(r"(?:held in|open in) (?P<program>[^\n]+?) ?\(PID (?P<id>\d+)\)", str(error))
    if found is None:
        return ""
    name = re.split(r"[\\/]", found["program"])[-1]
    return f" ({name}, process {found['id']})"
