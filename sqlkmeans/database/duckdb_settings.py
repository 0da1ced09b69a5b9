"""How much memory DuckDB may take."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import duckdb

from sqlkmeans.memory import parse_bytes

#: Room for each key in the index of a primary key, which DuckDB holds in memory. It built one of
#: 5,000,000 ascending bigint keys in 32 bytes each, one of texts of 22 characters in 64.
INDEX_BYTES = 64
#: What it gets for each key while it builds one, and what it gets at least. Most need no more; with
#: more it keeps blocks of the table as well.
INDEXING_BYTES, LEAST_INDEXING_BYTES = 36, 32 * 2**20
#: Memory that one of DuckDB's threads needs to work in.
THREAD_BYTES = 128 * 2**20
LEAST_BYTES = 16 * 2**20
#: What DuckDB gets while rows only pass through it, from a table and into one: memory and threads.
#: With more it would keep blocks that nobody asks for again, and memory that is touched first costs
#: time as well. One thread reads faster than rows are taken; all of them have to write.
READING, WRITING = (64 * 2**20, 1), (256 * 2**20, 2)


def settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a new connection quiet and exact; each has settings of its own for that."""
    # It would go to standard output, where results are.
    connection.execute("SET enable_progress_bar = false")
    # A table that is not there is not to be looked for among the variables of Python.
    connection.execute("SET python_enable_replacements = false")


def limit_to(
    connection: duckdb.DuckDBPyConnection, limit: int | None, most_threads: int | None = None
) -> None:
    """Let DuckDB take at most so many bytes from now on; None: as much as it does by itself.

    It gets as many threads as can work in that, or ``most_threads``.
    """
    connection.execute("RESET GLOBAL memory_limit")
    connection.execute("RESET GLOBAL threads")
    if limit is None:
        return
    if limit < parse_bytes(_value(connection, "memory_limit")):
        # A database in memory can hold more than that already.
        with suppress(duckdb.OutOfMemoryException):
            connection.execute(f"SET GLOBAL memory_limit = '{int(limit)}B'")
    threads = int(_value(connection, "threads"))
    most = limit // THREAD_BYTES if most_threads is None else most_threads
    connection.execute(f"SET GLOBAL threads = {max(1, min(threads, most))}")


def spill_apart(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a database in memory a temporary folder of its own, made when it is needed.

    By default it is `.tmp` in the working folder, where two such databases, of one process or of
    two, write over each other's rows.
    """
    folder = Path(tempfile.gettempdir(), f"sqlkmeans_{uuid4().hex}").as_posix()
    connection.execute("SET temp_directory = '{}'".format(folder.replace("'", "''")))


def release(connection: duckdb.DuckDBPyConnection) -> None:
    """Make DuckDB drop the blocks that it keeps of tables it has read."""
    before = _value(connection, "memory_limit")
    # What cannot be dropped stays.
    with suppress(duckdb.OutOfMemoryException):
        connection.execute(f"SET GLOBAL memory_limit = '{LEAST_BYTES}B'")
    connection.execute(f"SET GLOBAL memory_limit = '{before}'")


def index_fits(connection: duckdb.DuckDBPyConnection, keys: int) -> bool:
    """Whether DuckDB could hold the index of a primary key with so many keys."""
    return keys * INDEX_BYTES <= parse_bytes(_value(connection, "memory_limit"))


def _value(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    row = connection.execute(f"SELECT current_setting('{name}')").fetchone()
    return str(row[0]) if row else ""
