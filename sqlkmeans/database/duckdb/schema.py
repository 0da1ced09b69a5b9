"""Schema ``sqlkmeans`` on DuckDB: made, upgraded, dropped."""

from __future__ import annotations

import duckdb

from sqlkmeans._version import __version__
from sqlkmeans.database import tables
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.duckdb.connection import DuckDBConnection
from sqlkmeans.database.duckdb.reading import describe_table
from sqlkmeans.database.duckdb.statements import insert, literal, transaction
from sqlkmeans.database.duckdb.store import DuckDBStore, utc_now
from sqlkmeans.sqltext import Name, parse_name, quote, quote_name

#: The script that brings a schema of the version before to each version from 2 on, and keeps its
#: rows. A new one is made in its newest shape.
MIGRATIONS: tuple[str, ...] = ()

_TYPES = {
    "text": "varchar", "integer": "integer", "bigint": "bigint", "float": "double",
    "boolean": "boolean", "date": "date", "time": "timestamp",
}  # fmt: skip


def newest_version() -> int:
    """The version that :meth:`Schema.install` brings the schema to."""
    return 1 + len(MIGRATIONS)


class Schema:
    """The schema of one database."""

    def __init__(self, connection: DuckDBConnection, catalog: Catalog, store: DuckDBStore) -> None:
        self._connection = connection
        self._catalog = catalog
        self._store = store

    @property
    def _native(self) -> duckdb.DuckDBPyConnection:
        return self._connection.native

    def version(self) -> int:
        """The number of the last migration applied; 0 where there is no schema."""
        if describe_table(self._native, "sqlkmeans.schema_version") is None:
            return 0
        ((newest,),) = self._catalog.select("SELECT MAX(version) FROM sqlkmeans.schema_version")
        return newest or 0

    def install(self) -> int:
        """Make or upgrade it; returns the version it now has."""
        done, newest = self.version(), newest_version()
        if done >= newest:
            return done
        with transaction(self._native):
            for statement in MIGRATIONS[done - 1 :] if done else _create_statements():
                self._native.execute(statement)
            for number in range(done + 1, newest + 1):
                row = {"version": number, "package_version": __version__, "applied_at": utc_now()}
                insert(self._native, tables.schema_version, row)
        # DuckDB cannot replay every change of a table after a kill.
        self._native.execute("CHECKPOINT")
        return newest

    def uninstall(self, *, execute: bool) -> list[str]:
        """Drop it, and what stands beside segment tables; returns the statements."""
        statements: list[str] = []
        if self.version():
            for target in self._catalog.targets():
                statements += _drop_beside(parse_name(target))
            statements.append("DROP SCHEMA sqlkmeans CASCADE")
        if execute:
            self._execute(statements)
        return statements

    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        """Remove a segmentation and its runs; returns the statements."""
        given = literal(name)
        runs = f"(SELECT run_id FROM sqlkmeans.run WHERE segmentation = {given})"
        statements: list[str] = []
        with self._store.lock(name):
            for target in self._catalog.own_targets(name):
                statements += _drop_beside(parse_name(target))
                if drop_target:
                    statements.append(f"DROP TABLE IF EXISTS {quote_name(parse_name(target))}")
            for table in tables.RESULT_TABLES:
                statements.append(f"DELETE FROM sqlkmeans.{table} WHERE run_id IN {runs}")
            statements += [
                f"DELETE FROM sqlkmeans.run WHERE segmentation = {given}",
                f"DELETE FROM sqlkmeans.segmentation WHERE name = {given}",
            ]
            if execute:
                self._execute(statements)
        return statements

    def _execute(self, statements: list[str]) -> None:
        with transaction(self._native):
            for statement in statements:
                self._native.execute(statement)


def _create_statements() -> list[str]:
    return [
        f"CREATE SCHEMA IF NOT EXISTS {tables.SCHEMA}",
        f"CREATE SEQUENCE {tables.SCHEMA}.run_id START 1",
        *(_create_statement(table) for table in tables.TABLES.values()),
    ]


def _create_statement(table: tables.Table) -> str:
    columns = [
        f"{quote(column.name)} {_TYPES[column.type]}{'' if column.nullable else ' NOT NULL'}"
        for column in table.typed
    ]
    key = ", ".join(quote(column) for column in table.key)
    columns.append(f"PRIMARY KEY ({key})")
    return f"CREATE TABLE {tables.SCHEMA}.{table.name} ({', '.join(columns)})"


def _drop_beside(target: Name) -> list[str]:
    """Statements that drop what belongs to a segment table."""
    named, history = ((*target[:-1], target[-1] + end) for end in ("_named", "_history"))
    return [
        f"DROP VIEW IF EXISTS {quote_name(named)}",
        f"DROP TABLE IF EXISTS {quote_name(history)}",
    ]
