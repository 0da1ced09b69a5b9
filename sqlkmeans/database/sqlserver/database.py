"""SQL Server, Azure SQL Database and Managed Instance.

What is published is published by the procedures of schema ``sqlkmeans``, so that a run from here
and one inside the server do the same. This package reads, stages and calls them.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa
from sqlalchemy.engine import URL, make_url

from sqlkmeans.database.base import Batch, Column, Database, Finding, Opening, Source, Workspace
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.source import TogetherReader
from sqlkmeans.database.sqlserver.change_tracking import TrackedChanges, tracking_problems
from sqlkmeans.database.sqlserver.changes import Changes, ColumnChanges
from sqlkmeans.database.sqlserver.connection import Connector
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.doctor import IS_OWNER, examine
from sqlkmeans.database.sqlserver.errors import is_transient
from sqlkmeans.database.sqlserver.labels import SQLServerLabels
from sqlkmeans.database.sqlserver.ranges import begin_together
from sqlkmeans.database.sqlserver.reading import describe, read_batches, read_query, same_customer
from sqlkmeans.database.sqlserver.script import batches, install_script, uninstall_script
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.sessions import Sessions, source_error
from sqlkmeans.database.sqlserver.staged import Staged
from sqlkmeans.database.sqlserver.store import SQLServerStore
from sqlkmeans.database.sqlserver.together import together_reader
from sqlkmeans.database.sqlserver.types import (
    SqlColumn,
    bracket_name,
    create_type,
    relation,
    text,
)
from sqlkmeans.database.sqlserver.workspace import SQLServerWorkspace, open_dialect
from sqlkmeans.database.sqlserver.writing import write_rows
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError
from sqlkmeans.publication import Row
from sqlkmeans.sqltext import parse_name


class SQLServerDatabase(Database):
    """A database of a server."""

    def __init__(self, url: URL, *, from_file: bool = False) -> None:
        self._sessions = Sessions(url, from_file=from_file)
        self._connector = self._sessions.connector
        self.safe_url = self._connector.safe_url
        self.catalog: Catalog = _SQLServerCatalog(self._connector)
        staged = Staged()
        self.store = SQLServerStore(self._sessions, staged)
        self.labels = SQLServerLabels(self._sessions, self.catalog, self.store, staged)
        # Whoever opens a database wants to know at once that it is not there.
        self._connector.read("connecting", "SELECT 1;")

    @classmethod
    def open(cls, url: str, opening: Opening) -> SQLServerDatabase:
        return cls(make_url(url), from_file=opening.from_file)

    def close(self) -> None:
        self._sessions.close()

    # The schema

    def schema_version(self) -> int:
        found = self._connector.read(
            "looking for schema sqlkmeans",
            "SELECT SCHEMA_ID(N'sqlkmeans'), OBJECT_ID(N'sqlkmeans.schema_version', N'U'), "
            f"{IS_OWNER};",
        )[0]
        if found[0] is not None and found[1] is None and found[2] == 0:
            raise DatabaseError(
                "schema sqlkmeans is in this database, and this login may not see it; ask for the "
                "role sqlkmeans_operator (docs/connect.md)"
            )
        if found[1] is None:
            return 0
        rows = self._connector.read(
            "reading the version of schema sqlkmeans",
            "SELECT MAX(v.version) FROM sqlkmeans.schema_version AS v;",
        )
        return int(rows[0][0] or 0)

    def install(self) -> int:
        with self._sessions.open("installing schema sqlkmeans") as session:
            for batch in batches(install_script()):
                session.rows(batch)
        return self.schema_version()

    def run_script(self, script: str) -> None:
        with self._sessions.open("running the script") as session:
            for batch in batches(script):
                session.rows(batch)

    def run_inside(self, segmentation: Segmentation, kind: str) -> int:
        with self._sessions.open("running in the database") as session:
            if kind == "assign":
                row = session.call("assign_segments", segmentation=segmentation.name)
            else:
                row = session.call(
                    "run_segmentation",
                    segmentation=segmentation.name,
                    definition=segmentation.to_json(),
                    engine=segmentation.engine,
                )
        return int(row[0])

    def self_test(self, *, keep: bool = False) -> Row:
        if not self.schema_version():
            raise DatabaseError(
                f"{self.safe_url}: no schema sqlkmeans yet; `sqlkmeans install` makes it"
            )
        with self._sessions.open("the self-test") as session:
            row = session.call("self_test", keep=1 if keep else None)
        report: Row = json.loads(row[0])
        for result in report["results"]:
            result["ok"] = None if result["ok"] is None else bool(result["ok"])
        return report

    def schedule(self, segmentation: str | None, options: Row) -> Row:
        with self._sessions.open("scheduling") as session:
            row = session.call("create_agent_job", segmentation=segmentation, **options)
        columns = ("job", "outcome", "frequency", "day", "at", "command", "owner", "warning")
        return dict(zip(columns, row))

    def unschedule(self, segmentation: str | None, step: str | None = None) -> None:
        with self._sessions.open("dropping the job") as session:
            session.call("drop_agent_job", segmentation=segmentation, step=step)

    def uninstall(self, *, execute: bool) -> list[str]:
        with self._sessions.open("removing schema sqlkmeans") as session:
            found: list[tuple[Any, ...]] = []
            for batch in batches(uninstall_script(execute=execute)):
                found += session.rows(batch)
        return [str(row[0]).rstrip(";") for row in found]

    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        with self._sessions.open(f"dropping {name}") as session:
            rows = session.guarded(
                "EXECUTE sqlkmeans.drop_segmentation @segmentation = ?, @drop_target = ?, "
                "@execute = ?;",
                [name, drop_target, execute],
            )
        return [str(row[1]).rstrip(";") for row in rows]

    def doctor(self) -> list[Finding]:
        with self._sessions.open("examining the server") as session:
            return examine(session, self._connector, self.schema_version())

    # A source

    def describe(self, source: str) -> list[Column]:
        return [column.to_column() for column in self._sessions.columns(source)]

    def table_names(self) -> list[str]:
        rows = self._connector.read(
            "looking for tables",
            "SELECT s.name, o.name FROM sys.objects AS o "
            "INNER JOIN sys.schemas AS s ON s.schema_id = o.schema_id "
            "WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND s.name <> N'sqlkmeans' "
            "ORDER BY s.name, o.name;",
        )
        return [f"{schema}.{name}" for schema, name in rows]

    def describe_table(self, name: str) -> list[Column] | None:
        return self.describe(name) if self._sessions.exists(name) else None

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
        keys, values, weight = self._read_columns(segmentation, features, types or {})

        def read(
            session: Session, condition: str | None, parameters: Sequence[str | int]
        ) -> Generator[Batch, None, None]:
            query = read_query(segmentation.source, keys, values, weight, condition=condition)
            return self._batches(session, query, keys, values, weight, parameters)

        snapshot, together = self._snapshot_allowed(), None
        if snapshot and customer is None:
            together = begin_together(self._connector, segmentation.source, keys[0])
        if together is not None:
            with closing(together), closing(together.batches(read)) as batches:
                yield Source(together.row_count, batches, in_key_order=True)
            return
        session, rows = self._connector.repeating(
            lambda: self._begin_reading(segmentation.source, snapshot)
        )
        try:
            if customer is None:
                yield Source(rows, read(session, None, ()), in_key_order=True)
            else:
                same = same_customer("source", keys)
                yield Source(1, read(session, same, customer), in_key_order=True)
        finally:
            session.close()

    def _read_columns(
        self, segmentation: Segmentation, features: Sequence[str], types: Mapping[str, str]
    ) -> tuple[list[SqlColumn], list[tuple[SqlColumn, str]], SqlColumn | None]:
        """The keys, the features and as what each is read, and the weight if there is one."""
        columns = {column.name: column for column in self._sessions.columns(segmentation.source)}
        types = {**segmentation.feature_types, **types}
        return (
            [columns[name] for name in segmentation.key],
            [(columns[name], types.get(name, "number")) for name in features],
            columns[segmentation.sample_weight] if segmentation.sample_weight else None,
        )

    def together_reader(
        self, segmentation: Segmentation, features: Sequence[str], types: Mapping[str, str]
    ) -> TogetherReader | None:
        if not self._snapshot_allowed():
            return None
        columns = self._read_columns(segmentation, features, types)
        return together_reader(self._connector, segmentation.source, *columns)

    def _snapshot_allowed(self) -> bool:
        """Whether the database keeps row versions, so that a transaction can see one moment.

        Asked, and not tried: where it keeps none, the server would log an error at every run.
        """
        rows = self._connector.read(
            "looking for snapshot isolation",
            "SELECT d.snapshot_isolation_state FROM sys.databases AS d WHERE d.name = DB_NAME();",
        )
        return bool(rows) and rows[0][0] == 1

    def _begin_reading(self, source: str, snapshot: bool) -> tuple[Session, int]:
        """A session that sees one moment where the database allows it, and the rows it sees."""
        session = self._connector.open_to_read()
        count = f"SELECT COUNT_BIG(*) FROM {relation(source)}"
        try:
            if snapshot:
                try:
                    session.rows("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
                    session.native.autocommit = False
                    return session, int(session.rows(count)[0][0])
                except self._connector.errors as error:
                    if is_transient(error):
                        raise
                    # A source in another database that keeps no versions.
                    session.close()
                    session = self._connector.open_to_read()
            return session, int(session.rows(count)[0][0])
        except self._connector.errors as error:
            session.close()
            if is_transient(error):
                raise
            raise source_error(error, "source") from None

    def _batches(
        self,
        session: Session,
        query: str,
        keys: Sequence[SqlColumn],
        features: Sequence[tuple[SqlColumn, str]],
        weight: SqlColumn | None,
        parameters: Sequence[str | int],
    ) -> Generator[Batch, None, None]:
        try:
            yield from read_batches(session, query, keys, features, weight, parameters)
        except (*self._connector.errors, pa.ArrowException) as error:
            raise source_error(error, "source: reading stopped") from None

    def count(self, source: str) -> int:
        rows = self._connector.read(
            f"source {source}", f"SELECT COUNT_BIG(*) FROM {relation(source)};"
        )
        return int(rows[0][0])

    def create_table(self, name: str, rows: pa.Table, key: str, *, replace: bool = False) -> None:
        parts = parse_name(name)
        schema = parts[-2] if len(parts) > 1 else "dbo"
        loading = (*parts[:-1], parts[-1] + " (loading)")
        typed = ", ".join(
            f"{bracket(field.name)} {create_type(field.type)}"
            f"{' NOT NULL' if field.name == key else ' NULL'}"
            for field in rows.schema
        )
        with self._sessions.open(f"making {name}") as session:
            create_schema = text(f"CREATE SCHEMA {bracket(schema)}")
            session.rows(f"IF SCHEMA_ID({text(schema)}) IS NULL EXECUTE ({create_schema})")
            session.rows(f"DROP TABLE IF EXISTS {bracket_name(loading)}")
            session.rows(
                f"CREATE TABLE {bracket_name(loading)} ({typed}, PRIMARY KEY ({bracket(key)}))"
            )
            columns = describe(session, bracket_name(loading))
            write_rows(session, self._connector.copier, bracket_name(loading), columns, rows)
            # A bulk copy is not part of a transaction; a table that is there under its name is
            # whole all the same.
            if replace:
                session.rows(f"DROP TABLE IF EXISTS {bracket_name(parts)}")
            session.rows(
                f"EXECUTE sys.sp_rename {text(bracket_name(loading))}, {text(parts[-1])}, N'OBJECT'"
            )

    @contextmanager
    def open_workspace(self, segmentation: Segmentation) -> Iterator[Workspace]:
        columns = {column.name: column for column in self._sessions.columns(segmentation.source)}
        with self._sessions.open("training in the database") as session:
            dialect = open_dialect(session, self._connector.errors)
            yield SQLServerWorkspace(session, relation(segmentation.source), columns, dialect)

    # Changes of a source

    def change_tracking_problems(self, source: str) -> list[str]:
        return tracking_problems(self._connector, source)

    def high_water(self, segmentation: Segmentation) -> str | None:
        query = self._changes(segmentation).high_water_query()
        value = self._connector.read("looking for changes", query)[0][0]
        return None if value is None else str(value)

    def changed_source(self, segmentation: Segmentation, since: str) -> str:
        return self._changes(segmentation).rows_since(since)

    def changes_unknown_since(self, segmentation: Segmentation, since: str) -> str | None:
        return self._changes(segmentation).unknown_since(since)

    def _changes(self, segmentation: Segmentation) -> Changes:
        for column in self._sessions.columns(segmentation.source):
            if column.name == segmentation.changed_by:
                return ColumnChanges(segmentation, column)
        return TrackedChanges(segmentation, self._connector)


class _SQLServerCatalog(Catalog):
    """Reads that are tried again, and whose errors are sentences."""

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def select(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connector.read("reading schema sqlkmeans", f"{query};", parameters)
