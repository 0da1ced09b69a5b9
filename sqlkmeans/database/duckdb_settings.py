"""How much memory DuckDB may take."""

from __future__ import annotations

from contextlib import suppress

import duckdb

from sqlkmeans.memory import parse_bytes

#: What a key takes in the index of a primary key, which DuckDB cannot move to the disk: measured
#: at 40 to 50 bytes for bigint keys while it is built.
INDEX_BYTES = 64
#: Memory that one of DuckDB's threads needs to work in.
THREAD_BYTES = 128 * 2**20

Settings = dict[str, str]


def lower(connection: duckdb.DuckDBPyConnection, limit: int) -> Settings:
    """Set a memory limit, where there is none that is lower; returns what was set before."""
    before = {name: _value(connection, name) for name in ("memory_limit", "threads")}
    if limit < parse_bytes(before["memory_limit"]):
        # A database in memory can hold more than that already.
        with suppress(duckdb.OutOfMemoryException):
            connection.execute(f"SET GLOBAL memory_limit = '{int(limit)}B'")
    threads = max(1, min(int(before["threads"]), limit // THREAD_BYTES))
    connection.execute(f"SET GLOBAL threads = {threads}")
    return before


def restore(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Set what was set before."""
    for name, value in settings.items():
        connection.execute(f"SET GLOBAL {name} = '{value}'")


def index_fits(connection: duckdb.DuckDBPyConnection, keys: int) -> bool:
    """Whether DuckDB could hold the index of a primary key with so many keys."""
    return keys * INDEX_BYTES <= parse_bytes(_value(connection, "memory_limit"))


def _value(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    row = connection.execute(f"SELECT current_setting('{name}')").fetchone()
    return str(row[0]) if row else ""
