"""DuckDB: the embedded database, one file, one process that writes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans._version import __version__
from sqlkmeans.background import one_thread
from sqlkmeans.database import tables
from sqlkmeans.database.base import (
    Batch,
    Column,
    Counts,
    Database,
    Empty,
    Finding,
    Row,
    Source,
    Workspace,
    split_batch,
)
from sqlkmeans.database.duckdb import access, changes, memory
from sqlkmeans.database.duckdb.labels import UNCHANGED, KeyColumn, LabelTables, staging_name
from sqlkmeans.database.duckdb.statements import DuckDBCatalog, insert, transaction, update
from sqlkmeans.database.duckdb.workspace import DuckDBWorkspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError, LockedError
from sqlkmeans.memory import release_unused
from sqlkmeans.publication import Publication
from sqlkmeans.sqltext import Name, named_files, parse_name, parse_source, quote, quote_name

#: A batch of just so many rows becomes a row group, whichever thread writes it: neighbouring keys
#: stay together.
BATCH_ROWS = memory.GROUP_ROWS
#: Rows that are read at a time. The buffers of twice as many are so large that the system takes
#: them back after each batch, and clears them for the next.
READ_ROWS = 61_440

#: What a source may read beside the database.
FILES_ALLOWED = (
    "allowed: a .csv or .parquet file whose path stands as a table in the source of the definition "
    "file that is given (docs/connect.md)"
)

_NUMBERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "FLOAT", "DOUBLE",
}  # fmt: skip
_INEXACT = {"FLOAT", "DOUBLE"}
_WHOLE_NUMBERS = _NUMBERS - _INEXACT
_DATES = {
    "DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_OTHER_KEYS = {"UUID", "BLOB", "BOOLEAN"}

# Segmentations being run in this process; other processes are kept out by DuckDB's file lock.
_running: set[tuple[str, str]] = set()
_running_guard = threading.Lock()


@dataclass(frozen=True)
class _Load:
    """Labels on their way into tables aside."""

    written: Future[int]
    now: datetime
    key: list[KeyColumn]


class DuckDBDatabase(Database):
    """One connection for all, so that all is in the same transaction."""

    installs_itself = True

    def __init__(
        self, path: str, *, create: bool = False, read_only: bool = False, files: Sequence[str] = ()
    ) -> None:
        self._path, self._read_only = path, read_only
        self.safe_url = f"duckdb:///{path}"
        self.stays = self._path != ":memory:"
        self._identity = str(_resolved(path)) if self.stays else uuid4().hex
        apart = read_only or not self.stays
        self._spill = access.SpillFolder.of(self._identity) if apart else None
        self._staged_rows = 0
        self._staged_labels: pa.Table | None = None
        self._load: _Load | None = None
        try:
            self._connect(files, create=create)
        except BaseException:
            self._remove_spilled()
            raise

    def _connect(self, files: Sequence[str], *, create: bool) -> None:
        self._files = tuple(files)
        self._native = _connect(
            self._path, create=create, read_only=self._read_only, spill=self._spill, files=files
        )
        self.catalog = DuckDBCatalog(self._native)
        self._limits = memory.Limits(self._native)

    def close(self) -> None:
        self._native.close()
        self._remove_spilled()

    def _remove_spilled(self) -> None:
        if self._spill is not None:
            self._spill.remove()
            self._spill = None

    def open_files(self, source: str) -> None:
        wanted = [file for file in access.files_of([source]) if file not in self._files]
        if not wanted:
            return
        if not self.stays and self._native.execute("SELECT 1 FROM duckdb_tables()").fetchone():
            raise DatabaseError(
                f"{', '.join(wanted)}: which files may be read is settled when a database in "
                f"memory is opened: open_database(url, files={wanted})"
            )
        # What is shut can only be shut otherwise by opening it anew.
        self._native.close()
        self._connect([*self._files, *wanted], create=False)

    # The schema

    def schema_version(self) -> int:
        if self.describe_table("sqlkmeans.schema_version") is None:
            return 0
        ((newest,),) = self.catalog.select("SELECT MAX(version) FROM sqlkmeans.schema_version")
        return newest or 0

    def install(self) -> int:
        done = self.schema_version()
        pending = [(number, script) for number, script in _migrations() if number > done]
        if not pending:
            return done
        with transaction(self._native):
            for number, script in pending:
                if number == 1:
                    self._native.execute("CREATE SCHEMA IF NOT EXISTS sqlkmeans")
                    self._native.execute(
                        "CREATE TABLE sqlkmeans.schema_version (version integer NOT NULL PRIMARY "
                        "KEY, package_version varchar NOT NULL, applied_at timestamp NOT NULL)"
                    )
                self._native.execute(script)
                row = {"version": number, "package_version": __version__, "applied_at": utc_now()}
                insert(self._native, tables.schema_version, row)
        # DuckDB cannot replay every change of a table after a kill.
        self._native.execute("CHECKPOINT")
        return pending[-1][0]

    def uninstall(self, *, execute: bool) -> list[str]:
        statements: list[str] = []
        if self.schema_version():
            for target in self.catalog.targets():
                parts = parse_name(target)
                statements += [
                    f"DROP VIEW IF EXISTS {quote_name(_beside(parts, '_named'))}",
                    f"DROP TABLE IF EXISTS {quote_name(_beside(parts, '_history'))}",
                ]
            statements.append("DROP SCHEMA sqlkmeans CASCADE")
        if execute:
            with transaction(self._native):
                for statement in statements:
                    self._native.execute(statement)
        return statements

    def drop_segmentation(self, name: str, *, drop_target: bool, execute: bool) -> list[str]:
        given = "'" + name.replace("'", "''") + "'"
        runs = f"(SELECT run_id FROM sqlkmeans.run WHERE segmentation = {given})"
        statements: list[str] = []
        with self.lock(name):
            for target in self.catalog.own_targets(name):
                parts = parse_name(target)
                statements += [
                    f"DROP VIEW IF EXISTS {quote_name(_beside(parts, '_named'))}",
                    f"DROP TABLE IF EXISTS {quote_name(_beside(parts, '_history'))}",
                ]
                if drop_target:
                    statements.append(f"DROP TABLE IF EXISTS {quote_name(parts)}")
            for table in tables.RESULT_TABLES:
                statements.append(f"DELETE FROM sqlkmeans.{table} WHERE run_id IN {runs}")
            statements += [
                f"DELETE FROM sqlkmeans.run WHERE segmentation = {given}",
                f"DELETE FROM sqlkmeans.segmentation WHERE name = {given}",
            ]
            if execute:
                with transaction(self._native):
                    for statement in statements:
                        self._native.execute(statement)
        return statements

    def doctor(self) -> list[Finding]:
        version, newest = self.schema_version(), _migrations()[-1][0]
        schema = f"version {version}" if version else "none yet; the first run makes it"
        if 0 < version < newest:
            schema += f"; `sqlkmeans install` brings it to {newest}"
        where = self._path if self.stays else f"{self._path}, where nothing stays"
        return [
            Finding("database", self.stays or None, f"DuckDB {duckdb.__version__}, {where}"),
            Finding("schema sqlkmeans", None if version == 0 else version == newest, schema),
        ]

    def limited_memory(self, limit: int) -> AbstractContextManager[None]:
        return self._limits.at_most(limit)

    def release_memory(self) -> None:
        self._limits.release()

    def publish_notes(self, segmentation: Segmentation, rows: int) -> list[str]:
        if self.describe_table(segmentation.target) or self._limits.hold_index(rows):
            return []
        return [
            f"{segmentation.target} has no primary key: DuckDB keeps its index in memory, and "
            f"memory_limit is too low for one of {rows:,} keys; the run found every key once"
        ]

    # A source

    def describe(self, source: str) -> list[Column]:
        try:
            rows = self._native.execute(f"DESCRIBE SELECT * FROM {_relation(source)}").fetchall()
        except (duckdb.CatalogException, duckdb.BinderException) as error:
            raise DataError(f"source {source}: {_with_advice(error)}") from None
        except duckdb.PermissionException as error:
            missing = [file for file in named_files(source) if not Path(file).exists()]
            if missing:
                raise DataError([f"source: there is no file {file}" for file in missing]) from None
            raise DataError(f"source {source}: {_first_line(error)}; {FILES_ALLOWED}") from None
        except duckdb.Error as error:
            raise DataError(
                f"source {source}: DuckDB cannot run it: {_first_line(error)}"
            ) from None
        return [_column(str(row[0]), str(row[1])) for row in rows]

    def table_names(self) -> list[str]:
        rows = self._native.execute(
            "SELECT schema_name || '.' || table_name AS name FROM duckdb_tables() "
            "WHERE NOT internal AND schema_name <> 'sqlkmeans' UNION ALL "
            "SELECT schema_name || '.' || view_name FROM duckdb_views() "
            "WHERE NOT internal AND schema_name <> 'sqlkmeans' ORDER BY name"
        ).fetchall()
        return [str(name).removeprefix("main.") for (name,) in rows]

    def describe_table(self, name: str) -> list[Column] | None:
        place = _schema_and_table(parse_name(name))
        there = self._native.execute(
            "SELECT 1 FROM duckdb_tables() "
            "WHERE lower(schema_name) = lower($1) AND lower(table_name) = lower($2) "
            "UNION ALL SELECT 1 FROM duckdb_views() "
            "WHERE lower(schema_name) = lower($1) AND lower(view_name) = lower($2)",
            place,
        ).fetchone()
        if there is None:
            return None
        try:
            rows = self._native.execute(f"DESCRIBE {quote_name(place)}").fetchall()
        except duckdb.Error:
            # A view whose table is not there any more. This takes longer: the catalogue of all
            # columns has those of a hundred views of DuckDB's own.
            rows = self._native.execute(
                "SELECT column_name, data_type FROM duckdb_columns() "
                "WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?) "
                "ORDER BY column_index",
                place,
            ).fetchall()
        return [_column(str(row[0]), str(row[1])) for row in rows] or None

    @contextmanager
    def open_source(
        self,
        segmentation: Segmentation,
        features: Sequence[str],
        customer: Sequence[str] | None = None,
        *,
        in_order: bool = False,
    ) -> Iterator[Source]:
        relation, parameters = _relation(segmentation.source), None
        if customer is not None:
            condition = _same_customer(self.describe(segmentation.source), segmentation, customer)
            relation, parameters = f"{relation} WHERE {condition}", list(customer)
        keys = ", ".join(quote(key) for key in segmentation.key)
        values = self._feature_values(segmentation, features)
        if segmentation.sample_weight is not None:
            values.append(f"CAST({quote(segmentation.sample_weight)} AS double)")
        order = f" ORDER BY {keys}" if in_order else ""
        with ExitStack() as stack:
            if customer is None and not in_order and self.gives_again(segmentation.source):
                stack.enter_context(
                    self._limits.only(memory.reading(len(segmentation.key) + len(values)))
                )
            stack.enter_context(transaction(self._native))
            try:
                counted = self._native.execute(
                    f"SELECT COUNT(*) FROM {relation}", parameters
                ).fetchone()
                with memory.in_order():
                    rows = self._native.execute(
                        f"SELECT {keys}, {', '.join(values)} FROM {relation}{order}", parameters
                    )
                reader = rows.to_arrow_reader(READ_ROWS)
            except duckdb.Error as error:
                raise DataError(f"source: {_first_line(error)}") from None
            batches = self._batches(reader, len(segmentation.key), len(features))
            # Sorting here would hold every column once more; the reader sorts where it can.
            yield Source(counted[0] if counted else 0, batches, in_key_order=in_order)

    def gives_again(self, source: str) -> bool:
        # A table is read as it lies, and nothing has to be computed for it.
        name = parse_source(source).name
        return name is not None and bool(
            self._native.execute(
                "SELECT 1 FROM duckdb_tables() "
                "WHERE lower(schema_name) = lower(?) AND lower(table_name) = lower(?)",
                _schema_and_table(name),
            ).fetchall()
        )

    def _feature_values(self, segmentation: Segmentation, features: Sequence[str]) -> list[str]:
        """How a query reads each feature, as :class:`Batch` says."""
        columns = {column.name: column for column in self.describe(segmentation.source)}
        types = segmentation.feature_types
        return [
            f"{_feature_value(columns[name], types.get(name, 'number'))} AS {quote(name)}"
            for name in features
        ]

    def _batches(
        self, reader: pa.RecordBatchReader, n_keys: int, n_features: int
    ) -> Iterator[Batch]:
        try:
            for batch in reader:
                yield split_batch(batch, n_keys, n_features)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise DataError(f"source: reading stopped: {_first_line(error)}") from None

    def published_label(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        columns = self.describe_table(segmentation.target)
        if columns is None:
            return None
        condition = _same_customer(columns, segmentation, customer)
        target = quote_name(parse_name(segmentation.target))
        row = self._native.execute(
            f"SELECT segment_id FROM {target} WHERE {condition}", list(customer)
        ).fetchone()
        return int(row[0]) if row else None

    def count(self, source: str) -> int:
        row = self._native.execute(f"SELECT COUNT(*) FROM {_relation(source)}").fetchone()
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

    def labelled_sample(
        self, segmentation: Segmentation, columns: Sequence[str], at_most: int
    ) -> pa.Table:
        values = ", ".join(self._feature_values(segmentation, columns))
        keys = ", ".join(quote(key) for key in segmentation.key)
        return self._native.execute(
            f"SELECT {values}, segment_id FROM {_relation(segmentation.source)} "
            f"JOIN {quote_name(parse_name(segmentation.target))} USING ({keys}) "
            f"ORDER BY hash({keys}), {keys} LIMIT {int(at_most)}"
        ).to_arrow_table()

    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        return self._labels(segmentation).movement(from_run_id, to_run_id)

    # Changes of a source

    def high_water(self, segmentation: Segmentation) -> str | None:
        name = str(segmentation.changed_by)
        types = {column.name: column.type for column in self.describe(segmentation.source)}
        newest = changes.newest(name, types[name])
        row = self._native.execute(
            f"SELECT CAST({newest} AS varchar) FROM {_relation(segmentation.source)}"
        ).fetchone()
        return row[0] if row else None

    def changed_source(self, segmentation: Segmentation, since: str) -> str:
        return changes.changed_rows(
            segmentation, since, _relation(segmentation.source), self._labels(segmentation).target
        )

    # A run

    @contextmanager
    def lock(self, segmentation: str) -> Iterator[None]:
        held = (self._identity, segmentation)
        with _running_guard:
            if held in _running:
                raise LockedError(f"{segmentation} is being run already; nothing was changed")
            _running.add(held)
        try:
            yield
        except duckdb.Error as error:
            raise DatabaseError(f"{self._path}: {_first_line(error)}") from error
        finally:
            with _running_guard:
                _running.discard(held)

    def start_run(self, segmentation: Segmentation, run: Row) -> int:
        now, name = utc_now(), segmentation.name
        with transaction(self._native):
            self._reclaim(name, now)
            if self.catalog.segmentation(name) is None:
                row = {
                    "name": name, "definition": segmentation.to_json(),
                    "target": segmentation.target, "last_segment_id": 0,
                    "created_at": now, "updated_at": now,
                }  # fmt: skip
                insert(self._native, tables.segmentation, row)
            return self._insert_run(segmentation, {**run, "started_at": now})

    def _insert_run(self, segmentation: Segmentation, run: Row) -> int:
        # Not as a default of the column: DuckDB fails to replay later changes of such a table.
        ((next_id,),) = self.catalog.select("SELECT nextval('sqlkmeans.run_id')")
        values = {
            "run_id": int(next_id),
            "segmentation": segmentation.name,
            "status": "running",
            "definition": segmentation.to_json(),
            "sqlkmeans_version": __version__,
            **run,
        }
        insert(self._native, tables.run, values)
        return int(values["run_id"])

    def _reclaim(self, name: str, now: datetime) -> None:
        """Close what killed runs left: the caller holds the lock, so none of them is alive."""
        error = "the process ended before it finished"
        ended = {"status": "failed", "error": error, "finished_at": now}
        update(self._native, tables.run, ended, segmentation=name, status="running")

    def fail_run(self, run_id: int, error: str) -> None:
        self._unstage(run_id)
        failed = {"status": "failed", "error": error, "finished_at": utc_now()}
        # Not one that was published before it was interrupted.
        update(self._native, tables.run, failed, run_id=run_id, status="running")

    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        # DuckDB reads Arrow memory where it lies, inside the publishing transaction: a table
        # would only be a second copy, and one to clean up after a crash.
        labels = keys.append_column("cluster", _column_of(clusters, pa.int32()))
        labels = labels.append_column("distance", _column_of(distances, pa.float64()))
        batches = labels.to_batches(BATCH_ROWS)
        self._staged_labels = pa.Table.from_batches(batches, labels.schema)
        self._staged_rows = labels.num_rows
        label_tables = self._labels(segmentation)
        if label_tables.published:
            label_tables.show_staged(run_id, self._staged_labels)

    def _lend_staged(self, labels: LabelTables, run_id: int) -> None:
        """Let a connection read the staged labels once. Nobody else may hold them: they are let go
        of as soon as they are written."""
        assert self._staged_labels is not None
        labels.show_staged(run_id, _stream(self._staged_labels))

    @contextmanager
    def loading(
        self, segmentation: Segmentation, run_id: int, segment_ids: Sequence[int]
    ) -> Iterator[None]:
        if self._staged_labels is None or self._labels(segmentation).published:
            yield
            return
        now = self._publication_time(segmentation.name)
        with self._native.cursor() as native, one_thread() as thread:
            memory.settle(native)
            key = self._key_columns(segmentation)
            labels = self._labels(segmentation, native)
            self._lend_staged(labels, run_id)
            row_bytes = -(-self._staged_labels.nbytes // max(1, self._staged_rows))
            share = memory.writing(row_bytes)

            def write() -> int:
                try:
                    with self._limits.only(share):
                        rows = labels.write_aside(run_id, segment_ids, now)
                except duckdb.OutOfMemoryException:
                    self._lend_staged(labels, run_id)
                    rows = labels.write_aside(run_id, segment_ids, now)
                native.unregister("sqlkmeans_labels")
                return rows

            written = thread.submit(write)
            self._load = _Load(written, now, key)
            try:
                yield
            finally:
                self._load = None
                if not written.done():
                    native.interrupt()
                # After what is being done.
                thread.submit(labels.drop_aside)

    @contextmanager
    def open_workspace(self, segmentation: Segmentation) -> Iterator[Workspace]:
        types = {column.name: column.type for column in self.describe(segmentation.source)}
        workspace = DuckDBWorkspace(self._native, _relation(segmentation.source), types)
        try:
            yield workspace
        finally:
            workspace.drop_temporary()

    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        self._native.execute(f"CREATE OR REPLACE TEMP VIEW {staging_name(run_id)} AS {query}")
        self._staged_rows = rows

    def stage_unchanged(
        self, segmentation: Segmentation, run_id: int, segment_ids: Sequence[int]
    ) -> list[tuple[int, int, float]]:
        clusters = self._labels(segmentation).stage_unchanged(
            run_id, _relation(segmentation.source), segment_ids
        )
        self._staged_rows = sum(size for _, size, _ in clusters)
        return clusters

    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        return self._labels(segmentation).overlap(run_id, segmentation.smallest_group)

    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        run_id, labels = publication.run_id, self._labels(segmentation)
        with self._aside(segmentation, publication) as (now, aside), transaction(self._native):
            counts = labels.apply_staged(
                run_id, publication.segment_ids, now, publication.distance_tolerance, aside
            )
            self._require_rows(labels)
            for name, rows in publication.tables.items():
                if rows:
                    self._insert_result(name, [{"run_id": run_id, **row} for row in rows])
            run = {**publication.run, "model_run_id": publication.model_run_id}
            self._finish(segmentation.name, run_id, run, counts, now)
            defined = {
                "definition": segmentation.to_json(),
                "target": segmentation.target,
                "last_segment_id": publication.last_segment_id,
            }
            update(self._native, tables.segmentation, defined, name=segmentation.name)
        self._unstage(run_id)
        self._expire_history(segmentation, run_id, now)
        return counts

    def _expire_history(self, segmentation: Segmentation, run_id: int, now: datetime) -> None:
        """Keep the history as long as the definition says; a failure is a warning of the run."""
        if segmentation.history_days is None:
            return
        before = now - timedelta(days=segmentation.history_days)
        try:
            self._labels(segmentation).expire_history(before)
        except duckdb.Error as error:
            warnings = json.loads((self.catalog.run(run_id) or {}).get("warnings") or "[]")
            warnings.append(f"history_days: the history was not purged: {_first_line(error)}")
            update(self._native, tables.run, {"warnings": warnings}, run_id=run_id)

    @contextmanager
    def _aside(
        self, segmentation: Segmentation, publication: Publication
    ) -> Iterator[tuple[datetime, int | None]]:
        """When the labels are published, and how many of them wait aside for that."""
        labels, rows = self._labels(segmentation), None
        now = self._load.now if self._load else self._publication_time(segmentation.name)
        try:
            if self._load is not None:
                rows = self._load.written.result()
            elif not labels.published:
                if self._staged_labels is not None:
                    self._lend_staged(labels, publication.run_id)
                rows = labels.write_aside(publication.run_id, publication.segment_ids, now)
            if rows is not None:
                # They are written, and the index takes more than they do.
                self._forget_staged()
                labels.index_aside(rows)
            yield now, rows
        except BaseException:
            with suppress(duckdb.Error):
                labels.drop_aside()
            raise

    def _insert_result(self, name: str, rows: list[Row]) -> None:
        """Insert rows, which have the same columns, as Arrow.

        As parameters they would take longer: DuckDB looks for pandas at each of them.
        """
        columns = {column: pa.array([row[column] for row in rows]) for column in rows[0]}
        self._native.register("sqlkmeans_rows", _stream(pa.table(columns)))
        table = quote_name((tables.SCHEMA, name))
        self._native.execute(f"INSERT INTO {table} BY NAME SELECT * FROM sqlkmeans_rows")
        self._native.unregister("sqlkmeans_rows")

    def _require_rows(self, labels: LabelTables) -> None:
        """Count what was written, before it is committed."""
        published = self.count(labels.target)
        if published != self._staged_rows:
            raise DatabaseError(
                f"{self._staged_rows:,} labels were sent and {published:,} arrived; "
                "nothing was published"
            )

    def _unstage(self, run_id: int) -> None:
        self._native.execute(f"DROP VIEW IF EXISTS {staging_name(run_id)}")
        self._native.execute(f"DROP TABLE IF EXISTS {UNCHANGED}")
        self._forget_staged()

    def _forget_staged(self) -> None:
        self._native.unregister("sqlkmeans_labels")
        self._staged_labels = None
        release_unused()

    def finish_choice(
        self, segmentation: Segmentation, run_id: int, run: Row, k_score: list[Row]
    ) -> None:
        now = utc_now()
        with transaction(self._native):
            for row in k_score:
                insert(self._native, tables.k_score, {"run_id": run_id, **row})
            total = round((now - self._started(run_id)).total_seconds(), 3)
            finished = {"status": "finished", "seconds_total": total, "finished_at": now}
            update(self._native, tables.run, {**run, **finished}, run_id=run_id)

    def _started(self, run_id: int) -> datetime:
        query = "SELECT started_at FROM sqlkmeans.run WHERE run_id = ?"
        ((started,),) = self.catalog.select(query, [run_id])
        assert isinstance(started, datetime)
        return started

    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        labels = self._labels(segmentation)
        with transaction(self._native):
            now = self._publication_time(segmentation.name)
            row = {**run, "started_at": now, "restored_run_id": restored_run["run_id"]}
            run_id = self._insert_run(segmentation, row)
            counts = labels.apply_as_of(
                run_id, restored_run["published_at"], restored_run["rows"], now
            )
            result = {"model_run_id": restored_run["model_run_id"]}
            self._finish(segmentation.name, run_id, result, counts, now)
        return counts

    def _finish(self, name: str, run_id: int, run: Row, counts: Counts, now: datetime) -> None:
        finished = max(utc_now(), now)
        total = (finished - self._started(run_id)).total_seconds()
        steps = sum(run.get(f"seconds_{step}", 0.0) for step in ("read", "fit", "assign"))
        result = {
            **run,
            "seconds_publish": round(max(0.0, total - steps), 3),
            "seconds_total": round(total, 3),
            "status": "published",
            "changed": counts.changed,
            "arrived": counts.arrived,
            "moved": counts.moved,
            "departed": counts.departed,
            "written": counts.written,
            "published_at": now,
            "finished_at": finished,
        }
        update(self._native, tables.run, result, run_id=run_id)
        active = {"active_run_id": run["model_run_id"], "updated_at": now}
        update(self._native, tables.segmentation, active, name=name)

    def _publication_time(self, name: str) -> datetime:
        """Now, but later than the last publication, so that "as of" tells the two apart."""
        query = "SELECT MAX(published_at) FROM sqlkmeans.run WHERE segmentation = ?"
        ((last,),) = self.catalog.select(query, [name])
        return later_than(last)

    def rename_segment(
        self, segmentation: str, segment_id: int, name: str, description: str | None
    ) -> None:
        values: Row = {"name": name, "name_source": "given"}
        if description is not None:
            values["description"] = description
        runs = "SELECT run_id FROM sqlkmeans.run WHERE segmentation = ?"
        with transaction(self._native):
            for (run_id,) in self.catalog.select(runs, [segmentation]):
                update(self._native, tables.segment, values, run_id=run_id, segment_id=segment_id)

    # Names and types

    def _labels(
        self, segmentation: Segmentation, native: duckdb.DuckDBPyConnection | None = None
    ) -> LabelTables:
        return LabelTables(
            native or self._native, self._limits, segmentation.name,
            parse_name(segmentation.target), self._key_columns(segmentation),
        )  # fmt: skip

    def _key_columns(self, segmentation: Segmentation) -> list[KeyColumn]:
        # While labels are written DuckDB has too little memory to look into a file of text.
        if self._load is not None:
            return self._load.key
        # What is published says it as well, and is there when the source is not any more.
        columns = self.describe_table(segmentation.target) or self.describe(segmentation.source)
        types = {column.name: column.type for column in columns}
        return [KeyColumn(name, types[name]) for name in segmentation.key]


def utc_now() -> datetime:
    """The moment, in UTC, without a zone, as every table keeps it."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def later_than(last: datetime | None) -> datetime:
    """Now, or a microsecond after ``last`` where the clock says it is not later yet."""
    now = utc_now()
    if last is None or now > last:
        return now
    return last + timedelta(microseconds=1)


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
        raise DatabaseError(f"{path}: {_first_line(error)}") from None
    except duckdb.ConnectionException as error:
        if "different configuration" in str(error):
            raise LockedError(
                f"{path}: this process has the database open already, for reading only or with "
                "other settings; close that connection first"
            ) from None
        raise DatabaseError(f"{path}: {_first_line(error)}") from None
    except duckdb.Error as error:
        raise DatabaseError(f"{path}: {_first_line(error)}") from None


def _holder(error: BaseException) -> str:
    """Which process holds a file, where DuckDB says it."""
    # On Linux and macOS: "held in /usr/bin/python3.11 (PID 42)"; on Windows the path stands alone.
    found = re.search(r"(?:held in|open in) (?P<program>[^\n]+?) ?\(PID (?P<id>\d+)\)", str(error))
    if found is None:
        return ""
    name = re.split(r"[\\/]", found["program"])[-1]
    return f" ({name}, process {found['id']})"


def _migrations() -> list[tuple[int, str]]:
    folder = resources.files("sqlkmeans.database.duckdb").joinpath("migrations")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda f: f.name
    )
    return [(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


def _relation(source: str) -> str:
    parsed = parse_source(source)
    if parsed.name is not None:
        return quote_name(parsed.name)
    query = str(parsed.query)
    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise DataError("source: allowed: a table, a view, or one SELECT")
    # The line break ends a comment that the query may end with.
    return f"({query}\n) AS source"


def _same_customer(
    columns: Sequence[Column], segmentation: Segmentation, customer: Sequence[str]
) -> str:
    """The condition that finds a customer by the key's values as text, one parameter each."""
    types = {column.name: column.type for column in columns}
    conditions = []
    for key, value in zip(segmentation.key, customer):
        kind = types[key]
        # DuckDB would round 41.7 to the customer 42.
        if kind in _WHOLE_NUMBERS and not value.strip().lstrip("+-").isdecimal():
            raise DataError(f"key {key}: {value!r} given; allowed: a whole number")
        text = "unhex(substr(?, 3))" if kind == "BLOB" else f"CAST(? AS {kind})"
        conditions.append(f"{quote(key)} = {text}")
    return " AND ".join(conditions)


def _column_of(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An array of numbers where it lies. ``pa.array`` loads NumPy's masked arrays first."""
    values = np.ascontiguousarray(values, kind.to_pandas_dtype())
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _stream(rows: pa.Table) -> object:
    """What DuckDB reads once. For a table it would load pyarrow.dataset, which takes as long as a
    few hundred thousand rows take to be written."""
    return rows.__arrow_c_stream__()


def _schema_and_table(parts: Name) -> tuple[str, str]:
    return (parts[-2] if len(parts) > 1 else "main", parts[-1])


def _beside(target: tuple[str, ...], suffix: str) -> tuple[str, ...]:
    return (*target[:-1], target[-1] + suffix)


def _column(name: str, type_name: str) -> Column:
    base = type_name.split("(")[0]
    if base in _NUMBERS or base == "DECIMAL":
        kind = "number"
    elif base == "BOOLEAN":
        kind = "boolean"
    elif base == "VARCHAR" or base.startswith("ENUM"):
        kind = "text"
    else:
        kind = "date" if base in _DATES else "other"
    exact = (base in _NUMBERS and base not in _INEXACT) or base == "DECIMAL"
    category = kind in ("text", "boolean") or base == "UUID" or (base in _NUMBERS - _INEXACT)
    can_be_key = exact or base == "VARCHAR" or base in _DATES | _OTHER_KEYS
    return Column(name, type_name, kind, can_be_key, category)


def _feature_value(column: Column, feature_type: str) -> str:
    name = quote(column.name)
    if feature_type == "category":
        # A boolean as on SQL Server, whose bit is 1 or 0 as text too.
        value = f"CAST({name} AS integer)" if column.kind == "boolean" else name
        return f"CAST({value} AS varchar)"
    if feature_type == "date":
        # The day in UTC, whatever the session's zone.
        zoned = column.type == "TIMESTAMP WITH TIME ZONE"
        value = f"({name} AT TIME ZONE 'UTC')" if zoned else name
        days = f"date_diff('day', DATE '1970-01-01', CAST({value} AS date))"
        return f"CAST({days} AS double)"
    return f"CAST({name} AS double)"


def _with_advice(error: BaseException) -> str:
    """The first line of an error of DuckDB's, and which names it thinks were meant."""
    first, *others = str(error).strip().split("\n")
    advice = [line for line in others if line.startswith(("Did you mean", "Candidate bindings"))]
    return "; ".join([first.rstrip("!"), *advice[:1]])


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
