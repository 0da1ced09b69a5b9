"""DuckDB: the embedded database, one file, one process that writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import duckdb
import pyarrow as pa

from sqlkmeans.database.base import (
    ChangedRows,
    Column,
    Database,
    Finding,
    Opening,
    Source,
    Workspace,
)
from sqlkmeans.database.duckdb import changes, memory, reading
from sqlkmeans.database.duckdb.catalog import DuckDBCatalog
from sqlkmeans.database.duckdb.connection import DuckDBConnection
from sqlkmeans.database.duckdb.labels import DuckDBLabels
from sqlkmeans.database.duckdb.reading import batches, feature_values, relation, same_customer
from sqlkmeans.database.duckdb.schema import Schema, newest_version
from sqlkmeans.database.duckdb.staged import Staged
from sqlkmeans.database.duckdb.statements import first_line, transaction
from sqlkmeans.database.duckdb.store import DuckDBStore
from sqlkmeans.database.duckdb.workspace import DuckDBWorkspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.embedded import embedded_path
from sqlkmeans.errors import DataError
from sqlkmeans.sqltext import parse_name, quote, quote_name

#: Rows that are read at a time. The buffers of twice as many are so large that the system takes
#: them back after each batch, and clears them for the next.
READ_ROWS = 61_440


class DuckDBDatabase(Database):
    """A file, or a database in memory."""

    def __init__(
        self, path: str, *, create: bool = False, read_only: bool = False, files: Sequence[str] = ()
    ) -> None:
        connection = DuckDBConnection(path, create=create, read_only=read_only, files=files)
        self._connection = connection
        self.safe_url = f"duckdb:///{path}"
        self.stays = connection.stays
        self.catalog = DuckDBCatalog(connection)
        staged = Staged(connection)
        self.store = DuckDBStore(connection, self.catalog, staged)
        self.labels = DuckDBLabels(connection, self.catalog, self.store, staged)
        self._schema = Schema(connection, self.catalog, self.store)

    @classmethod
    def open(cls, url: str, opening: Opening) -> DuckDBDatabase:
        path = embedded_path(url)
        assert path is not None
        return cls(path, create=opening.create, read_only=opening.read_only, files=opening.files)

    @property
    def _native(self) -> duckdb.DuckDBPyConnection:
        return self._connection.native

    def close(self) -> None:
        self._connection.close()

    # The schema

    def schema_version(self) -> int:
        return self._schema.version()

    def install(self) -> int:
        return self._schema.install()

    def uninstall(self, *, execute: bool) -> list[str]:
        return self._schema.uninstall(execute=execute)

    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        return self._schema.drop_segmentation(name, drop_target=drop_target, execute=execute)

    def doctor(self) -> list[Finding]:
        version, newest = self.schema_version(), newest_version()
        schema = f"version {version}" if version else "none yet; the first run makes it"
        if 0 < version < newest:
            schema += f"; `sqlkmeans install` brings it to {newest}"
        where = (
            self._connection.path if self.stays else f"{self._connection.path}, where nothing stays"
        )
        return [
            Finding("database", self.stays or None, f"DuckDB {duckdb.__version__}, {where}"),
            Finding("schema sqlkmeans", None if version == 0 else version == newest, schema),
        ]

    # In this process

    def limited_memory(self, limit: int) -> AbstractContextManager[None]:
        return self._connection.limits.at_most(limit)

    def release_memory(self) -> None:
        self._connection.limits.release()

    def open_files(self, source: str) -> None:
        self._connection.open_files(source)

    def gives_again(self, source: str) -> bool:
        # Nothing has to be computed for a table.
        return reading.is_table(self._native, source)

    # A source

    def describe(self, source: str) -> list[Column]:
        return reading.describe(self._native, source)

    def table_names(self) -> list[str]:
        rows = self._native.execute(
            "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() "
            "WHERE NOT internal AND schema_name <> 'sqlkmeans' UNION ALL "
            "SELECT schema_name || '.' || view_name FROM duckdb_views() "
            "WHERE NOT internal AND schema_name <> 'sqlkmeans' ORDER BY name"
        ).fetchall()
        return [str(name).removeprefix("main.") for (name,) in rows]

    def describe_table(self, name: str) -> list[Column] | None:
        return reading.describe_table(self._native, name)

    @contextmanager
    def open_source(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None = None,
        *,
        in_order: bool = False,
        types: Mapping[str, str] | None = None,
    ) -> Iterator[Source]:
        rows_of, parameters = relation(segmentation.source), None
        if customer is not None:
            condition = same_customer(self.describe(segmentation.source), segmentation, customer)
            rows_of, parameters = f"{rows_of} WHERE {condition}", list(customer)
        keys = ", ".join(quote(key) for key in segmentation.key)
        values = feature_values(self._native, segmentation, features, types)
        if segmentation.sample_weight is not None:
            values.append(f"CAST({quote(segmentation.sample_weight)} AS double)")
        order = f" ORDER BY {keys}" if in_order else ""
        with ExitStack() as stack:
            if customer is None and not in_order and self.gives_again(segmentation.source):
                stack.enter_context(
                    self._connection.limits.only(
                        memory.reading(len(segmentation.key) + len(values))
                    )
                )
            stack.enter_context(transaction(self._native))
            try:
                counted = self._native.execute(
                    f"SELECT COUNT(*) FROM {rows_of}", parameters
                ).fetchone()
                with memory.in_order():
                    rows = self._native.execute(
                        f"SELECT {keys}, {', '.join(values)} FROM {rows_of}{order}", parameters
                    )
                reader = rows.to_arrow_reader(READ_ROWS)
            except duckdb.Error as error:
                raise DataError(f"source: {first_line(error)}") from None
            found = batches(reader, len(segmentation.key), len(features))
            # Sorting here would hold every column once more; the reader sorts where it can.
            yield Source(counted[0] if counted else 0, found, in_key_order=in_order)

    def count(self, source: str) -> int:
        row = self._native.execute(f"SELECT COUNT(*) FROM {relation(source)}").fetchone()
        return int(row[0]) if row else 0

    def create_table(self, name: str, rows: pa.Table, key: str, *, replace: bool = False) -> None:
        parts = parse_name(name)
        with transaction(self._native):
            if len(parts) > 1:
                self._native.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_name(parts[:-1])}")
            self._native.register("sqlkmeans_rows", rows)
            if replace:
                self._native.execute(f"DROP TABLE IF EXISTS {quote_name(parts)}")
            self._native.execute(f"CREATE TABLE {quote_name(parts)} AS FROM sqlkmeans_rows")
            self._native.execute(f"ALTER TABLE {quote_name(parts)} ADD PRIMARY KEY ({quote(key)})")
            self._native.unregister("sqlkmeans_rows")

    @contextmanager
    def open_workspace(self, segmentation: Segmentation) -> Iterator[Workspace]:
        columns = {column.name: column for column in self.describe(segmentation.source)}
        workspace = DuckDBWorkspace(self._native, relation(segmentation.source), columns)
        try:
            yield workspace
        finally:
            workspace.drop_temporary()

    # Changes of a source

    def high_water(self, segmentation: Segmentation) -> str | None:
        name = str(segmentation.changed_by)
        types = {column.name: column.type for column in self.describe(segmentation.source)}
        newest = changes.newest(name, types[name])
        row = self._native.execute(
            f"SELECT CAST({newest} AS varchar) FROM {relation(segmentation.source)}"
        ).fetchone()
        return row[0] if row else None

    def changed_rows(self, segmentation: Segmentation, since: str) -> ChangedRows:
        target = quote_name(parse_name(segmentation.target))
        query = changes.changed_rows(segmentation, since, relation(segmentation.source), target)
        return ChangedRows(query)
