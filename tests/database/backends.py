"""The databases that the shared suite runs against.

To add one: a subclass of :class:`Backend`, and a line in ``BACKENDS``. A backend starts empty in
every test, and what it can't do is said by an attribute, never by the name of the backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from sqlkmeans.database import Database, open_database
from sqlkmeans.sqltext import parse_name, quote, quote_name


class Backend(ABC):
    """An empty database of one kind, with a connection of its own to look at it from outside."""

    #: SQL type names: integer, bigint, text, uuid, date, float, decimal, boolean.
    types: Mapping[str, str]
    #: What a refused statement raises.
    error: type[Exception]
    #: An expression whose value is infinite; None where the database has no such number.
    infinity: str | None

    @abstractmethod
    def open(self) -> Database:
        """A new connection, as the package makes it; schema sqlkmeans is there or makes itself."""

    @abstractmethod
    def execute(self, sql: str) -> None:
        """Run a statement and commit it."""

    @abstractmethod
    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    @abstractmethod
    def make_table(
        self,
        name: str,
        rows: pa.Table,
        key: str | Sequence[str] | None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        """Make a table, and its schema where there is none.

        ``types`` gives SQL types by column where those of the Arrow columns won't do; without
        ``key`` the table has no primary key and takes NULL.
        """

    @abstractmethod
    def close(self) -> None:
        """Drop everything."""

    def tables(self, schema: str) -> set[str]:
        """Names of the tables and views of a schema."""
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = "
        return {row[0] for row in self.rows(f"{query}'{schema}'")}


class DuckDBBackend(Backend):
    types = {
        "integer": "INTEGER",
        "bigint": "BIGINT",
        "text": "VARCHAR",
        "uuid": "UUID",
        "date": "DATE",
        "float": "DOUBLE",
        "decimal": "DECIMAL(12,2)",
        "boolean": "BOOLEAN",
    }
    error = duckdb.Error
    infinity = "CAST('inf' AS double)"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "suite.duckdb"
        self._outside = duckdb.connect(str(self._path))

    def open(self) -> Database:
        return open_database(f"duckdb:///{self._path.as_posix()}", create=True)

    def execute(self, sql: str) -> None:
        self._outside.execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._outside.execute(sql).fetchall()

    def make_table(
        self,
        name: str,
        rows: pa.Table,
        key: str | Sequence[str] | None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        parts = parse_name(name)
        keys = [key] if isinstance(key, str) else list(key or [])
        if len(parts) > 1:
            self._outside.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(parts[:-1])}")
        self._outside.register("given", rows)
        columns = ", ".join(
            f"CAST({quote(column)} AS {types[column]}) AS {quote(column)}"
            if types and column in types
            else quote(column)
            for column in rows.column_names
        )
        self._outside.execute(f"CREATE TABLE {quote_name(parts)} AS SELECT {columns} FROM given")
        self._outside.unregister("given")
        if keys:
            listed = ", ".join(quote(column) for column in keys)
            self._outside.execute(f"ALTER TABLE {quote_name(parts)} ADD PRIMARY KEY ({listed})")

    def close(self) -> None:
        self._outside.close()


#: Name to a function from a folder for files to a Backend, or to a pytest.param of one.
BACKENDS: dict[str, Any] = {"duckdb": DuckDBBackend}
