"""What DuckDB may reach outside its database: the files that a definition's own source names."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from stat import S_ISDIR
from typing import IO, ClassVar

import duckdb

from sqlkmeans.errors import DatabaseError
from sqlkmeans.sqltext import named_files

#: What every folder for rows that do not fit into memory begins with.
SPILL_PREFIX = "sqlkmeans_spill_"
#: A folder that is younger may not have been claimed yet.
UNCLAIMED_SECONDS = 60
_CLAIM = "in_use"


def files_of(sources: Iterable[str]) -> list[str]:
    """The paths of files that stand as a table in sources, each once."""
    return list(dict.fromkeys(file for source in sources for file in named_files(source)))


def shut(connection: duckdb.DuckDBPyConnection, files: Iterable[str]) -> None:
    """Keep a database away from files, networks and extensions, but for reading these files.

    It cannot be undone while any connection to the database is open, and so holds for those that
    others have in this process too.

    Raises
    ------
    DatabaseError
        If another connection keeps it shut for other files.
    """
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    listed = ", ".join(_text(file) for file in files)
    if listed:
        try:
            connection.execute(f"SET allowed_paths = [{listed}]")
        except duckdb.InvalidInputException:
            raise DatabaseError(
                f"{listed} cannot be opened: another connection of this process has the database "
                "open without it; close that one first, or name the files when the database is "
                "opened: open_database(url, files=[…])"
            ) from None
    connection.execute("SET enable_external_access = false")


class SpillFolder:
    """A folder of the user's own for rows that do not fit into memory.

    By default DuckDB puts those of a database in memory into `.tmp` in the working folder, where
    everybody may read them, and those of all processes that read one file beside it. Databases
    and processes that share a folder write over each other's rows, and whoever ends first removes
    the others' files.
    """

    _open: ClassVar[dict[str, SpillFolder]] = {}
    _guard = threading.Lock()

    @classmethod
    def of(cls, database: str) -> SpillFolder:
        """That of a database, which its connections share as DuckDB does in one process."""
        with cls._guard:
            folder = cls._open.get(database) or cls._open.setdefault(database, cls(database))
            folder._users += 1
            return folder

    def __init__(self, database: str) -> None:
        self._database, self._users, self._used = database, 0, False
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=SPILL_PREFIX))  # 0700
        self._claim = (self._folder / _CLAIM).open("w")
        _claimed(self._claim)

    def use(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let the database put its rows here."""
        if self._used and self._users > 1:
            return
        self._used = True
        # A connection of somebody else's may have put rows elsewhere already.
        with contextlib.suppress(duckdb.NotImplementedException):
            connection.execute(f"SET temp_directory = {_text((self._folder / 'rows').as_posix())}")

    def remove(self) -> None:
        """Take it away with all that is in it, when its last user says so."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
            self._open.pop(self._database, None)
        self._claim.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sweep() -> None:
    """Take away the folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SPILL_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if time.time() - found.st_mtime < UNCLAIMED_SECONDS or not _is_own(found):
                continue
            with (folder / _CLAIM).open("r+") as claim:
                free = _claimed(claim)
            if free:
                shutil.rmtree(folder, ignore_errors=True)


def _is_own(found: os.stat_result) -> bool:
    return sys.platform == "win32" or (S_ISDIR(found.st_mode) and found.st_uid == os.getuid())


def _claimed(file: IO[str]) -> bool:
    """Whether the file is ours now; a process that ends lets go of it, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
