"""The databases that the shared suite runs against.

To add one: a subclass of :class:`Backend`, and a line in ``BACKENDS``. A backend starts empty in
every test, and what it can't do is said by an attribute, never by the name of the backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest

from sqlkmeans.database import Database, open_database
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.types import bracket_name, create_type
from sqlkmeans.sqltext import parse_name, quote, quote_name
from support import sqlserver_server


class Backend(ABC):
    """An empty database of one kind, with a connection of its own to look at it from outside."""

    #: SQL type names: integer, bigint, text, uuid, date, float, decimal, boolean.
    types: ClassVar[Mapping[str, str]]
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

    def require_names(  # noqa: B027
        self,
        *,
        tables: Sequence[str] = (),
        columns: Sequence[str] = (),
        texts: Sequence[str] = (),
    ) -> None:
        """Skip the test where the server cannot have such a name, or such a text in JSON."""

    def require_drop(self) -> None:  # noqa: B027
        """Skip the test where a table cannot be dropped that a view reads."""

    def tables(self, schema: str) -> set[str]:
        """Names of the tables and views of a schema."""
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = "
        return {row[0] for row in self.rows(f"{query}'{schema}'")}


class DuckDBBackend(Backend):
    types: ClassVar[Mapping[str, str]] = {
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
        # This connection is the last to close, and nobody opens the file again.
        self._outside.execute("PRAGMA disable_checkpoint_on_shutdown")

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


class SQLServerBackend(Backend):
    """A database of a live server, emptied before each test; schema sqlkmeans stays installed."""

    types: ClassVar[Mapping[str, str]] = {
        "integer": "int",
        "bigint": "bigint",
        "text": "nvarchar(200)",
        "uuid": "uniqueidentifier",
        "date": "date",
        "float": "float",
        "decimal": "decimal(12, 2)",
        "boolean": "bit",
    }
    infinity = None

    def __init__(self, driver: str, folder: Path) -> None:
        del folder
        import mssql_python

        self.error = mssql_python.Error
        self.url = sqlserver_server.server_url(driver)
        self._outside = sqlserver_server.connect(self.url)
        sqlserver_server.empty(self._outside)

    def open(self) -> Database:
        database = open_database(self.url.render_as_string(hide_password=False))
        if not database.schema_version():
            database.install()
        return database

    def execute(self, sql: str) -> None:
        sqlserver_server.rows(self._outside, sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return sqlserver_server.rows(self._outside, sql)

    def make_table(
        self,
        name: str,
        rows: pa.Table,
        key: str | Sequence[str] | None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        parts = parse_name(name)
        keys = [key] if isinstance(key, str) else list(key or [])
        schema = parts[-2] if len(parts) > 1 else "dbo"
        if schema != "dbo":
            self.execute(f"IF SCHEMA_ID('{schema}') IS NULL EXECUTE ('CREATE SCHEMA {schema}')")
        columns = [
            f"{bracket(field.name)} {(types or {}).get(field.name) or create_type(field.type)}"
            f"{' NOT NULL' if field.name in keys else ' NULL'}"
            for field in rows.schema
        ]
        if keys:
            columns.append(f"PRIMARY KEY ({', '.join(bracket(column) for column in keys)})")
        self.execute(f"CREATE TABLE {bracket_name(parts)} ({', '.join(columns)})")
        marks = ", ".join("?" for _ in rows.column_names)
        self._outside.autocommit = False
        cursor = self._outside.cursor()
        # One by one: executemany takes the type of a column of texts from the longest of them.
        for row in rows.to_pylist():
            cursor.execute(f"INSERT INTO {bracket_name(parts)} VALUES ({marks})", *row.values())
        cursor.close()
        self._outside.commit()
        self._outside.autocommit = True

    def require_drop(self) -> None:
        if not sqlserver_server.drops_what_views_read(self._outside):
            pytest.skip("this server cannot drop a table that a view reads")

    def require_names(
        self,
        *,
        tables: Sequence[str] = (),
        columns: Sequence[str] = (),
        texts: Sequence[str] = (),
    ) -> None:
        for text in texts:
            if not sqlserver_server.keeps_json(self._outside, text):
                pytest.skip(f"this server does not read the escapes of JSON, as in {text!r}")
        for name in (parse_name(table)[-1] for table in tables):
            if not sqlserver_server.keeps_name(self._outside, name):
                pytest.skip(f"this server cannot make, find and drop a table {name!r}")
        for name in columns:
            if not sqlserver_server.keeps_column(self._outside, name):
                pytest.skip(f"this server cannot make and find a column {name!r}")

    def close(self) -> None:
        self._outside.close()

    def tables(self, schema: str) -> set[str]:
        query = "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = "
        return {row[0] for row in self.rows(f"{query}'{schema}'")}


#: Name to a function from a folder for files to a Backend, or to a pytest.param of one.
BACKENDS: dict[str, Any] = {
    "duckdb": DuckDBBackend,
    **{
        f"sqlserver-{driver}": pytest.param(
            partial(SQLServerBackend, driver), marks=pytest.mark.sqlserver
        )
        for driver in sqlserver_server.DRIVERS
    },
}
