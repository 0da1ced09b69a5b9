"""The published labels on SQL Server: staged from here, published by procedures of the server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans._version import __version__
from sqlkmeans.database.catalog import Catalog
from sqlkmeans.database.label_changes import LabelChanges, all_to_stage, departed_to_stage
from sqlkmeans.database.labels import Counts, Empty, Labels, StagedCluster
from sqlkmeans.database.source import Column
from sqlkmeans.database.sqlserver.changes import clusters_query, stage_departed
from sqlkmeans.database.sqlserver.dialect import bracket, key_text
from sqlkmeans.database.sqlserver.errors import read_problem, statement_error
from sqlkmeans.database.sqlserver.parts import ATTEMPT, Batches, part_writer, parts_name
from sqlkmeans.database.sqlserver.reading import read_keys, read_labels, same_customer
from sqlkmeans.database.sqlserver.sessions import Sessions
from sqlkmeans.database.sqlserver.staged import Staged, staging_name
from sqlkmeans.database.sqlserver.store import SQLServerStore
from sqlkmeans.database.sqlserver.types import SqlColumn, beside, feature_arrow, relation
from sqlkmeans.database.sqlserver.writing import write_rows
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, SqlKMeansError
from sqlkmeans.publication import Publication, Row

#: How long whoever takes the parts of labels waits for those who still write.
PARTS_SECONDS = 300


class SQLServerLabels(Labels):
    """Sends what changed, and calls the procedures that publish it."""

    def __init__(
        self, sessions: Sessions, catalog: Catalog, store: SQLServerStore, staged: Staged
    ) -> None:
        self._sessions = sessions
        self._catalog = catalog
        self._store = store
        self._staged = staged

    def describe_table(self, name: str) -> list[Column] | None:
        if not self._sessions.exists(name):
            return None
        return [column.to_column() for column in self._sessions.columns(name)]

    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        self._staged.forget()
        if not self._sessions.exists(segmentation.target):
            self._write_labels(segmentation, run_id, all_to_stage(keys, clusters, distances))
        else:
            # What has to travel is known when clusters have their segment ids: in `publish`.
            self._staged.labels = (keys, clusters, distances)
            self._staged.empty = empty

    def _compare(self, segmentation: Segmentation) -> LabelChanges | None:
        """The labels that wait beside the published ones, read once; None where none wait."""
        staged = self._staged
        if staged.labels is not None:
            changes = LabelChanges(*staged.labels, staged.empty)
            staged.labels = None
            columns = self._sessions.columns(segmentation.target)
            with self._sessions.to_read("comparing with the published labels") as session:
                for batch in read_labels(session, segmentation, columns):
                    changes.add(*batch)
            changes.finish()
            staged.changes = changes
        return staged.changes

    def published_keys(self, segmentation: Segmentation) -> pa.Table:
        columns = {column.name: column for column in self._sessions.columns(segmentation.target)}
        keys = [columns[name] for name in segmentation.key]
        with self._sessions.to_read("reading the published keys") as session:
            batches = list(read_keys(session, segmentation, keys))
        if batches:
            return pa.Table.from_batches(batches)
        return pa.schema([(key.name, key.arrow) for key in keys]).empty_table()

    def stage_unchanged(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
        departed: pa.Table | None = None,
    ) -> list[StagedCluster]:
        staging = staging_name(run_id)
        if self._staged.labels is not None:
            labels = all_to_stage(*self._staged.labels)
            if labels.num_rows:
                self._write_labels(segmentation, run_id, labels)
        if departed is not None and departed.num_rows:
            self._write_labels(segmentation, run_id, departed_to_stage(departed))
        with self._sessions.open("staging who departed") as session:
            if departed is None:
                session.rows(stage_departed(segmentation, staging))
            rows = session.rows(f"SELECT COUNT_BIG(*) FROM {staging};")
            clusters = session.rows(
                clusters_query(segmentation, staging, segment_ids, outlier_distances)
            )
        self._staged.forget()
        self._staged.told = {"staged_rows": int(rows[0][0]), "changes_only": True}
        return [
            StagedCluster(int(row[0]), int(row[1]), float(row[2]), int(row[3])) for row in clusters
        ]

    def _write_labels(self, segmentation: Segmentation, run_id: int, labels: pa.Table) -> None:
        # Who is an outlier, publishing tells by the distance.
        names = set(labels.column_names)
        columns = [c for c in self._sessions.columns(staging_name(run_id)) if c.name in names]
        with self._sessions.open("staging labels") as session:
            with self._telling_of_repeats(segmentation):
                write_rows(
                    session, self._sessions.connector.copier, staging_name(run_id), columns, labels
                )

    @contextmanager
    def _telling_of_repeats(self, segmentation: Segmentation) -> Iterator[None]:
        try:
            yield
        except self._sessions.connector.errors as error:
            if read_problem(error).repeated_key:
                raise DataError(
                    f"key {', '.join(segmentation.key)}: two rows of the source have the same "
                    "one as its collation compares; nothing was published"
                ) from None
            raise

    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        self._stage_query(segmentation, run_id, workspace.rows, query, rows)

    def _staged_keys(self, segmentation: Segmentation, run_id: int) -> list[SqlColumn]:
        columns = {column.name: column for column in self._sessions.columns(staging_name(run_id))}
        return [columns[name] for name in segmentation.key]

    def key_lengths(self, segmentation: Segmentation, run_id: int) -> dict[str, int]:
        sizes = {"nvarchar": 2, "nchar": 2, "varchar": 1, "char": 1, "varbinary": 1, "binary": 1}
        return {
            key.name: key.max_length // sizes[key.base]
            for key in self._staged_keys(segmentation, run_id)
            if key.base in sizes
        }

    def part_writer(
        self, segmentation: Segmentation, run_id: int
    ) -> Callable[[Batches], Iterator[pa.RecordBatch]] | None:
        keys = self._staged_keys(segmentation, run_id)
        place = self._sessions.connector.elsewhere()
        if place is None or any(key.as_text for key in keys):
            return None
        with self._sessions.open("staging labels") as session:
            session.call("create_parts", run_id=run_id)
        types = [(key.name, key.arrow) for key in keys]
        schema = pa.schema([*types, ("cluster", pa.int32()), ("distance", pa.float64())])
        return part_writer(*place, run_id, schema)

    def accept_parts(
        self, segmentation: Segmentation, run_id: int, attempts: Sequence[int], rows: int
    ) -> None:
        query = (
            f"SELECT {_staged_names(segmentation)} FROM {parts_name(run_id)} "
            f"WHERE {bracket(ATTEMPT)} IN ({', '.join(str(int(attempt)) for attempt in attempts)})"
        )
        with self._sessions.open("staging labels") as session:
            # A task that Spark gave up may still write, and holds the heap for a batch at a time.
            session.rows(f"SET LOCK_TIMEOUT {PARTS_SECONDS * 1000};")
            try:
                self._stage_query(segmentation, run_id, session.guarded, query, rows)
            except self._sessions.connector.errors as error:
                problem = read_problem(error)
                told = problem.text
                # 1222, to which not every server gives its number.
                named = re.search("lock (request )?time ?out", told, re.IGNORECASE)
                if problem.number != 1222 and not named:
                    raise
                raise DatabaseError(
                    f"{parts_name(run_id)}: a task that Spark gave up still holds it after "
                    f"{PARTS_SECONDS} s ({told}); nothing was published, run it again"
                ) from None

    def _stage_query(
        self,
        segmentation: Segmentation,
        run_id: int,
        ask: Callable[[str], list[tuple[Any, ...]]],
        query: str,
        rows: int,
    ) -> None:
        self._staged.forget()
        with self._telling_of_repeats(segmentation):
            ask(
                f"INSERT INTO {staging_name(run_id)} WITH (TABLOCK) "
                f"({_staged_names(segmentation)})\n{query};"
            )
        arrived = ask(f"SELECT COUNT_BIG(*) FROM {staging_name(run_id)};")[0][0]
        if arrived != rows:
            raise DatabaseError(
                f"{rows:,} rows have a label and {arrived:,} arrived in {staging_name(run_id)}; "
                "nothing was published"
            )

    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        changes = self._compare(segmentation)
        if changes is not None:
            return changes.overlap()
        if not self._sessions.exists(segmentation.target):
            return []
        same = " AND ".join(
            f"label.{bracket(key)} = staged.{bracket(key)}" for key in segmentation.key
        )
        rows = self._sessions.connector.read(
            "comparing with the published labels",
            f"SELECT label.segment_id, staged.cluster, COUNT_BIG(*) "
            f"FROM {beside(segmentation.target, '')} AS label "
            f"INNER JOIN {staging_name(run_id)} AS staged ON {same} "
            "GROUP BY label.segment_id, staged.cluster "
            f"HAVING COUNT_BIG(*) >= {segmentation.smallest_group} "
            "ORDER BY label.segment_id, staged.cluster;",
        )
        return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]

    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        staged = self._stage_changes(segmentation, publication)
        values = publication.to_json()
        notes = self._sessions.connector.copier.notes()
        if notes:
            values["run"]["warnings"] = [*(values["run"].get("warnings") or ()), *notes]
        document = json.dumps({**staged, **values}, allow_nan=False)
        run_id = publication.run_id
        with self._sessions.locking(segmentation.name) as session:
            try:
                # All or nothing, so the victim of a deadlock may simply do it again.
                row = self._sessions.connector.repeating(
                    lambda: session.call("publish_run", run_id=run_id, publication=document)
                )
            except self._sessions.connector.errors as error:
                if not read_problem(error).lost:
                    raise
                self._store.lose(session)
                return self._published(run_id, error)
        return Counts(*(int(value) for value in row[:4]))

    def _stage_changes(self, segmentation: Segmentation, publication: Publication) -> Row:
        """Stage what changed, where that was left for now; returns what to publish it with."""
        changes, told = self._compare(segmentation), self._staged.told
        self._staged.forget()
        if changes is None:
            return told
        labels, changes_only = changes.to_stage(
            publication.segment_ids, publication.distance_tolerance, publication.outlier_distances
        )
        self._write_labels(segmentation, publication.run_id, labels)
        return {"staged_rows": labels.num_rows, "changes_only": changes_only}

    def _published(self, run_id: int, error: BaseException) -> Counts:
        """The connection was lost while publishing: ask the server how that ended.

        Raises
        ------
        DatabaseError
            If it did not publish, or does not say.
        """
        told = str(statement_error(error, "publishing"))
        try:
            self._store.end(run_id, told, wait_seconds=60)
        except SqlKMeansError as unknown:
            raise DatabaseError(
                f"{told}; whether run {run_id} is published, the server did not say ({unknown}): "
                "`sqlkmeans runs` asks it again"
            ) from None
        row = self._catalog.run(run_id)
        if row is None or row["status"] != "published":
            raise DatabaseError(f"{told}; nothing was published")
        return Counts(row["arrived"], row["moved"], row["departed"], row["written"])

    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        with self._sessions.locking(segmentation.name) as session:
            row = self._sessions.connector.repeating(
                lambda: session.call(
                    "rollback_segmentation",
                    segmentation=segmentation.name,
                    run_id=restored_run["run_id"],
                    client_version=__version__,
                    library_versions=json.dumps(run.get("library_versions") or {}),
                    client=run.get("client"),
                )
            )
        return Counts(*(int(value) for value in row[2:6]))

    def segment_of(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        if not self._sessions.exists(segmentation.target):
            return None
        columns = {column.name: column for column in self._sessions.columns(segmentation.target)}
        keys = [columns[name] for name in segmentation.key]
        rows = self._sessions.connector.read(
            "looking for the customer's label",
            f"SELECT label.segment_id FROM {beside(segmentation.target, '')} AS label "
            f"WHERE {same_customer('label', keys)};",
            list(customer),
        )
        return int(rows[0][0]) if rows else None

    def farthest(
        self, segmentation: Segmentation, at_most: int
    ) -> list[tuple[tuple[Any, ...], int, float]]:
        if not self._sessions.exists(segmentation.target):
            return []
        columns = {column.name: column for column in self._sessions.columns(segmentation.target)}
        keys = ", ".join(columns[key].read_expression for key in segmentation.key)
        order = ", ".join(f"source.{bracket(key)}" for key in segmentation.key)
        rows = self._sessions.connector.read(
            "looking for the farthest outliers",
            f"SELECT TOP ({int(at_most)}) {keys}, source.segment_id, source.distance "
            f"FROM {beside(segmentation.target, '')} AS source WHERE source.is_outlier = 1 "
            f"ORDER BY source.distance DESC, {order};",
        )
        return [(tuple(row[:-2]), int(row[-2]), float(row[-1])) for row in rows]

    def sample(self, segmentation: Segmentation, columns: Sequence[str], at_most: int) -> pa.Table:
        described = {column.name: column for column in self._sessions.columns(segmentation.source)}
        types = segmentation.feature_types
        read_as = [types.get(column, "number") for column in columns]
        values = ", ".join(
            described[column].as_feature(kind, "source.") for column, kind in zip(columns, read_as)
        )
        keys = ", ".join(f"source.{bracket(key)}" for key in segmentation.key)
        hashed = ", ".join(
            key_text(f"source.{bracket(key)}", described[key].type) for key in segmentation.key
        )
        same = " AND ".join(
            f"label.{bracket(key)} = source.{bracket(key)}" for key in segmentation.key
        )
        rows = self._sessions.connector.read(
            "reading a sample",
            f"SELECT TOP ({int(at_most)}) {values}, label.segment_id "
            f"FROM {relation(segmentation.source)} "
            f"INNER JOIN {beside(segmentation.target, '')} AS label ON {same} "
            f"ORDER BY CAST(HASHBYTES('MD5', CONCAT(N'', {hashed})) AS binary(16)), {keys};",
        )
        kinds = [feature_arrow(kind) for kind in read_as] + [pa.int32()]
        names = [*columns, "segment_id"]
        values_by_column = list(zip(*rows)) or [()] * len(names)
        return pa.table(
            [pa.array(given, kind) for given, kind in zip(values_by_column, kinds)], names=names
        )

    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        history = beside(segmentation.target, "_history")
        if not self._sessions.exists(segmentation.target, "_history"):
            raise DataError(f"{history}: the history is not there")
        # Not from the view segment_movement: that is made anew at each training run only.
        valid = (
            "h.valid_from <= {0}.published_at "
            "AND (h.valid_to IS NULL OR h.valid_to > {0}.published_at)"
        )
        keys = ", ".join(f"h.{bracket(key)}" for key in segmentation.key)
        rows = self._sessions.connector.read(
            "counting who moved",
            "SELECT c.from_segment_id, c.to_segment_id, COUNT_BIG(*) FROM (SELECT "
            f"MAX(CASE WHEN {valid.format('a')} THEN h.segment_id END) AS from_segment_id, "
            f"MAX(CASE WHEN {valid.format('b')} THEN h.segment_id END) AS to_segment_id "
            f"FROM {history} AS h CROSS JOIN sqlkmeans.run AS a CROSS JOIN sqlkmeans.run AS b "
            f"WHERE a.run_id = ? AND b.run_id = ? GROUP BY {keys}) AS c "
            "WHERE c.from_segment_id IS NOT NULL OR c.to_segment_id IS NOT NULL "
            "GROUP BY c.from_segment_id, c.to_segment_id;",
            [from_run_id, to_run_id],
        )
        flows = [(row[0], row[1], int(row[2])) for row in rows]
        return sorted(flows, key=lambda flow: (flow[0] or 0, flow[1] or float("inf")))


def _staged_names(segmentation: Segmentation) -> str:
    return ", ".join([*(bracket(key) for key in segmentation.key), "cluster", "distance"])
