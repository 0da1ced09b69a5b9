"""How much memory DuckDB may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import duckdb

from sqlkmeans.memory import parse_bytes

T = TypeVar("T")

#: Room for each key in the index of a primary key, which DuckDB holds in memory. It built one of
#: 5,000,000 ascending bigint keys in 32 bytes each, one of texts of 22 characters in 64.
INDEX_BYTES = 64
#: What it gets for each key while it builds one, and what it gets at least. Most need no more; with
#: more it keeps blocks of the table as well.
INDEXING_BYTES, LEAST_INDEXING_BYTES = 28, 32 * 2**20
#: Groups of rows that it gets room for while it writes some: they are put together in memory.
WRITING_GROUPS = 8
#: Rows that DuckDB stores together.
GROUP_ROWS = 122_880
#: What it needs for each column that it reads: two blocks.
COLUMN_BYTES = 2 * 262_144
#: Memory that one of DuckDB's threads needs to work in.
THREAD_BYTES = 128 * 2**20
LEAST_BYTES = 16 * 2**20
#: Whether rows keep their order is settled when a statement is planned, for all of the process.
_planning = threading.Lock()


@dataclass(frozen=True)
class Share:
    """What DuckDB gets: bytes, and threads."""

    memory: int
    threads: int


def reading(columns: int) -> Share:
    """What it gets while it reads so many columns of a table as they lie.

    With more it would keep blocks that nobody asks for again, and memory that is touched first
    costs time as well. One thread reads faster than rows are taken.
    """
    return Share(max(LEAST_BYTES, columns * COLUMN_BYTES), 1)


def writing(row_bytes: int) -> Share:
    """What it gets while it writes rows of so many bytes, twice."""
    return Share(max(LEAST_BYTES, WRITING_GROUPS * GROUP_ROWS * row_bytes), 2)


def indexing(keys: int) -> Share:
    """What it gets while it builds an index of so many keys."""
    return Share(max(LEAST_INDEXING_BYTES, keys * INDEXING_BYTES), 2)


class Limits:
    """What DuckDB may take now, of all that is being done at once.

    Parameters
    ----------
    native : duckdb.DuckDBPyConnection
        Of the database; others are opened beside it, because a query's result may be open on it.
    """

    def __init__(self, native: duckdb.DuckDBPyConnection) -> None:
        self._native = native
        self._guard = threading.Lock()
        self._caps: list[int] = []
        self._shares: list[Share] = []
        #: What it held before the first of these, and cannot drop.
        self._held = 0
        #: What it takes by itself: memory in words, and threads.
        self._own: tuple[str, int] | None = None

    def at_most(self, limit: int) -> AbstractContextManager[None]:
        """Let it take no more than so many bytes, whatever is done."""
        return self._among(self._caps, limit)

    def only(self, share: Share) -> AbstractContextManager[None]:
        """Let it take no more for one thing that is done, or the most of several such."""
        return self._among(self._shares, share)

    def hold_index(self, keys: int) -> bool:
        """Whether it could hold the index of a primary key with so many keys, when nothing else
        is being done."""
        with self._native.cursor() as connection, self._guard:
            memory, _ = self._found(connection)
            return keys * INDEX_BYTES <= min([parse_bytes(memory), *self._caps])

    def release(self) -> None:
        """Make it drop the blocks that it keeps of tables it has read."""
        with self._native.cursor() as connection, self._guard:
            self._set(connection)
            # What cannot be dropped stays.
            with suppress(duckdb.OutOfMemoryException):
                connection.execute(f"SET GLOBAL memory_limit = '{LEAST_BYTES}B'")
            self._set(connection)

    @contextmanager
    def _among(self, some: list[T], new: T) -> Iterator[None]:
        with self._native.cursor() as connection:
            with self._guard:
                if not self._shares:
                    self._held = _held(connection)
                some.append(new)
                self._set(connection)
            try:
                yield
            finally:
                with self._guard:
                    some.remove(new)
                    self._set(connection)

    def _found(self, connection: duckdb.DuckDBPyConnection) -> tuple[str, int]:
        if self._own is None:
            self._own = _value(connection, "memory_limit"), int(_value(connection, "threads"))
        return self._own

    def _set(self, connection: duckdb.DuckDBPyConnection) -> None:
        own_memory, own_threads = self._found(connection)
        memory, threads = list(self._caps), [max(1, cap // THREAD_BYTES) for cap in self._caps]
        if self._shares:
            memory.append(self._held + max(share.memory for share in self._shares))
            threads.append(max(share.threads for share in self._shares))
        limited = bool(memory) and min(memory) < parse_bytes(own_memory)
        # A database in memory can hold more than that already.
        with suppress(duckdb.OutOfMemoryException):
            limit = f"{min(memory)}B" if limited else own_memory
            connection.execute(f"SET GLOBAL memory_limit = '{limit}'")
        if not limited:
            # Without the digits that the words lack. Alone it would change what is shown, and
            # leave the old limit in force.
            connection.execute("RESET GLOBAL memory_limit")
        connection.execute(f"SET GLOBAL threads = {min([own_threads, *threads])}")


def _held(connection: duckdb.DuckDBPyConnection) -> int:
    """Bytes of indexes, tables in memory and changes that are not written yet: all that stays when
    blocks of tables are dropped."""
    row = connection.execute(
        "SELECT SUM(memory_usage_bytes) FROM duckdb_memory() WHERE tag <> 'BASE_TABLE'"
    ).fetchone()
    return int(row[0] or 0) if row else 0


def in_order() -> AbstractContextManager[object]:
    """For the start of a query whose rows are to come in the order in which they lie."""
    return _planning


def insert_in_any_order(connection: duckdb.DuckDBPyConnection, statement: str) -> int:
    """Insert with all threads, whatever rows come to lie beside each other; return how many.

    In half the time, and in less memory: to keep their order, rows wait for those before them.

    Parameters
    ----------
    statement : str
        An INSERT with literals. One with parameters would be planned again when it is executed.
    """
    # A transaction that has failed takes no statement any more, and the setting has to come back.
    with _planning, connection.cursor() as beside:
        kept = _value(beside, "preserve_insertion_order")
        beside.execute("SET GLOBAL preserve_insertion_order = false")
        try:
            connection.execute(f"PREPARE sqlkmeans_insert AS {statement}")
        finally:
            beside.execute(f"SET GLOBAL preserve_insertion_order = {kept}")
    try:
        row = connection.execute("EXECUTE sqlkmeans_insert").fetchone()
    finally:
        with suppress(duckdb.TransactionException):
            connection.execute("DEALLOCATE sqlkmeans_insert")
    return int(row[0]) if row else 0


def settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Make a new connection quiet and exact; each has settings of its own for that."""
    # It would go to standard output, where results are.
    connection.execute("PRAGMA disable_progress_bar")
    # A table that is not there is not to be looked for among the variables of Python.
    connection.execute("SET python_enable_replacements = false")


def _value(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    row = connection.execute(f"SELECT current_setting('{name}')").fetchone()
    return str(row[0]) if row else ""
