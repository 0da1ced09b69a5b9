"""The published labels on DuckDB, and how a run's take their place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.background import one_thread
from sqlkmeans.database import tables
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.duckdb import memory
from sqlkmeans.database.duckdb.connection import DuckDBConnection
from sqlkmeans.database.duckdb.label_tables import KeyColumn, LabelTables, staging_name
from sqlkmeans.database.duckdb.reading import (
    describe,
    describe_table,
    feature_values,
    relation,
    same_customer,
)
from sqlkmeans.database.duckdb.staged import Load, Staged, stream
from sqlkmeans.database.duckdb.statements import first_line, transaction, update
from sqlkmeans.database.duckdb.store import DuckDBStore
from sqlkmeans.database.labels import Counts, Empty, Labels, StagedCluster
from sqlkmeans.database.source import Column
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError
from sqlkmeans.publication import Publication, Row
from sqlkmeans.sqltext import parse_name, quote, quote_name


class DuckDBLabels(Labels):
    """Label tables that are written in the transaction that records their run."""

    def __init__(
        self, connection: DuckDBConnection, catalog: Catalog, store: DuckDBStore, staged: Staged
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._store = store
        self._staged = staged

    @property
    def _native(self) -> duckdb.DuckDBPyConnection:
        return self._connection.native

    def problems(self, segmentation: Segmentation) -> list[str]:
        name = parse_name(segmentation.target)
        rows = self._native.execute("SELECT database_name FROM duckdb_databases()").fetchall()
        if len(name) < 3 or name[0].lower() in {known.lower() for (known,) in rows}:
            return []
        return [
            f"target {segmentation.target}: this database has no catalog {name[0]}; allowed: "
            'schema.table, or with engine = "spark" a table of Spark\'s catalog'
        ]

    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        labels = self._staged.keep(keys, clusters, distances)
        label_tables = self._tables(segmentation)
        if label_tables.published:
            label_tables.show_staged(run_id, labels)

    @contextmanager
    def loading(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
    ) -> Iterator[None]:
        if self._staged.labels is None or self._tables(segmentation).published:
            yield
            return
        now = self._store.publication_time(segmentation.name)
        with self._native.cursor() as native, one_thread() as thread:
            memory.settle(native)
            key = self._key_columns(segmentation)
            labels = self._tables(segmentation, native)
            self._staged.lend(labels, run_id)
            row_bytes = -(-self._staged.labels.nbytes // max(1, self._staged.rows))
            share = memory.writing(row_bytes)

            def write() -> int:
                try:
                    with self._connection.limits.only(share):
                        rows = labels.write_aside(run_id, segment_ids, outlier_distances, now)
                except duckdb.OutOfMemoryException:
                    self._staged.lend(labels, run_id)
                    rows = labels.write_aside(run_id, segment_ids, outlier_distances, now)
                native.unregister("sqlkmeans_labels")
                return rows

            written = thread.submit(write)
            self._staged.load = Load(written, now, key)
            try:
                yield
            finally:
                self._staged.load = None
                if not written.done():
                    native.interrupt()
                # After what is being done.
                thread.submit(labels.drop_aside)

    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        self._native.execute(f"CREATE OR REPLACE TEMP VIEW {staging_name(run_id)} AS {query}")
        self._staged.rows = rows

    def published_keys(self, segmentation: Segmentation) -> pa.Table:
        keys = ", ".join(quote(key) for key in segmentation.key)
        target = quote_name(parse_name(segmentation.target))
        return self._native.execute(f"SELECT {keys} FROM {target}").to_arrow_table()

    def stage_unchanged(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
        departed: pa.Table | None = None,
    ) -> list[StagedCluster]:
        if departed is None:
            stays, listed = "EXISTS", relation(segmentation.source)
        else:
            stays, listed = "NOT EXISTS", "sqlkmeans_departed"
            self._native.register(listed, stream(departed))
        clusters = self._tables(segmentation).stage_unchanged(
            run_id, stays, listed, segment_ids, outlier_distances
        )
        self._native.unregister("sqlkmeans_departed")
        self._staged.rows = sum(cluster.size for cluster in clusters)
        return clusters

    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        return self._tables(segmentation).overlap(run_id, segmentation.smallest_group)

    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        run_id, labels = publication.run_id, self._tables(segmentation)
        with self._aside(segmentation, publication) as (now, aside), transaction(self._native):
            counts = labels.apply_staged(
                run_id, publication.segment_ids, publication.outlier_distances, now,
                publication.distance_tolerance, aside,
            )  # fmt: skip
            self._require_rows(labels)
            self._store.record(segmentation, publication, counts, now)
        self._staged.drop(run_id)
        self._expire_history(segmentation, run_id, now)
        return counts

    def _expire_history(self, segmentation: Segmentation, run_id: int, now: datetime) -> None:
        """Keep the history as long as the definition says; a failure is a warning of the run."""
        if segmentation.history_days is None:
            return
        before = now - timedelta(days=segmentation.history_days)
        try:
            self._tables(segmentation).expire_history(before)
        except duckdb.Error as error:
            warnings = json.loads((self._catalog.run(run_id) or {}).get("warnings") or "[]")
            warnings.append(f"history_days: the history was not purged: {first_line(error)}")
            update(self._native, tables.run, {"warnings": warnings}, run_id=run_id)

    @contextmanager
    def _aside(
        self, segmentation: Segmentation, publication: Publication
    ) -> Iterator[tuple[datetime, int | None]]:
        """When the labels are published, and how many of them wait aside for that."""
        labels, rows = self._tables(segmentation), None
        load = self._staged.load
        now = load.now if load else self._store.publication_time(segmentation.name)
        try:
            if load is not None:
                rows = load.written.result()
            elif not labels.published:
                if self._staged.labels is not None:
                    self._staged.lend(labels, publication.run_id)
                rows = labels.write_aside(
                    publication.run_id, publication.segment_ids, publication.outlier_distances, now
                )
            if rows is not None:
                # They are written, and the index takes more than they do.
                self._staged.forget()
                labels.index_aside(rows)
            yield now, rows
        except BaseException:
            with suppress(duckdb.Error):
                labels.drop_aside()
            raise

    def _require_rows(self, labels: LabelTables) -> None:
        """Count what was written, before it is committed."""
        published = labels.count()
        if published != self._staged.rows:
            raise DatabaseError(
                f"{self._staged.rows:,} labels were sent and {published:,} arrived; "
                "nothing was published"
            )

    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        labels = self._tables(segmentation)
        with transaction(self._native):
            now = self._store.publication_time(segmentation.name)
            row = {**run, "started_at": now, "restored_run_id": restored_run["run_id"]}
            run_id = self._store.insert(segmentation, row)
            counts = labels.apply_as_of(
                run_id, restored_run["published_at"], restored_run["rows"], now
            )
            result = {"model_run_id": restored_run["model_run_id"]}
            self._store.publish(segmentation.name, run_id, result, counts, now)
        return counts

    def describe_table(self, name: str) -> list[Column] | None:
        return describe_table(self._native, name)

    def notes(self, segmentation: Segmentation, rows: int) -> list[str]:
        published = describe_table(self._native, segmentation.target)
        if published or self._connection.limits.hold_index(rows):
            return []
        return [
            f"{segmentation.target} has no primary key: DuckDB keeps its index in memory, and "
            f"memory_limit is too low for one of {rows:,} keys; the run found every key once"
        ]

    def segment_of(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        columns = describe_table(self._native, segmentation.target)
        if columns is None:
            return None
        condition = same_customer(columns, segmentation, customer)
        target = quote_name(parse_name(segmentation.target))
        row = self._native.execute(
            f"SELECT segment_id FROM {target} WHERE {condition}", list(customer)
        ).fetchone()
        return int(row[0]) if row else None

    def farthest(
        self, segmentation: Segmentation, at_most: int
    ) -> list[tuple[tuple[Any, ...], int, float]]:
        if describe_table(self._native, segmentation.target) is None:
            return []
        keys = ", ".join(quote(key) for key in segmentation.key)
        target = quote_name(parse_name(segmentation.target))
        rows = self._native.execute(
            f"SELECT {keys}, segment_id, distance FROM {target} "
            f"WHERE is_outlier ORDER BY distance DESC, {keys} LIMIT {int(at_most)}"
        ).fetchall()
        return [(row[:-2], int(row[-2]), float(row[-1])) for row in rows]

    def sample(self, segmentation: Segmentation, columns: Sequence[str], at_most: int) -> pa.Table:
        values = ", ".join(feature_values(self._native, segmentation, columns))
        keys = ", ".join(quote(key) for key in segmentation.key)
        # A feature may have the name of a label's column.
        return self._native.execute(
            f"SELECT {values}, label.sqlkmeans_segment AS segment_id "
            f"FROM {relation(segmentation.source)} "
            f"JOIN (SELECT {keys}, segment_id AS sqlkmeans_segment "
            f"FROM {quote_name(parse_name(segmentation.target))}) AS label USING ({keys}) "
            f"ORDER BY hash({keys}), {keys} LIMIT {int(at_most)}"
        ).to_arrow_table()

    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        return self._tables(segmentation).movement(from_run_id, to_run_id)

    def _tables(
        self, segmentation: Segmentation, native: duckdb.DuckDBPyConnection | None = None
    ) -> LabelTables:
        return LabelTables(
            native or self._native, self._connection.limits, segmentation.name,
            parse_name(segmentation.target), self._key_columns(segmentation),
        )  # fmt: skip

    def _key_columns(self, segmentation: Segmentation) -> list[KeyColumn]:
        # While labels are written DuckDB has too little memory to look into a file of text.
        if self._staged.load is not None:
            return self._staged.load.key
        # What is published says it as well, and is there when the source is not any more.
        columns = describe_table(self._native, segmentation.target)
        columns = columns or self._described(segmentation)
        types = {column.name: column.type for column in columns}
        return [KeyColumn(name, types[name]) for name in segmentation.key]

    def _described(self, segmentation: Segmentation) -> list[Column]:
        """The source's columns; of one that is not here, those that came with its labels."""
        try:
            return describe(self._native, segmentation.source)
        except DataError:
            if self._staged.labels is None:
                raise
        with self._native.cursor() as native:
            native.register("sqlkmeans_keys", self._staged.labels)
            return describe(native, "sqlkmeans_keys")
