"""Labels in a table of Spark's catalog, whose runs and models are in a database.

What the database says is published counts. A run's table and its changes are written whole before
the database says so, and the views are replaced after: a run that is killed in between leaves what
nobody sees, or views of the run before, and the next one puts that right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.base import Database, RunsInside
from sqlkmeans.database.label_sql import beyond, clusters_of, segments_of
from sqlkmeans.database.labels import Counts, Empty, Labels, StagedCluster
from sqlkmeans.database.spark import types as spark_types
from sqlkmeans.database.spark.changes import keys_of
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.database.spark.lake_catalog import LakeCatalog
from sqlkmeans.database.spark.lake_tables import CHANGED, PREVIOUS, RELABELLED
from sqlkmeans.database.spark.session import SETTINGS, changed, told
from sqlkmeans.database.spark.sources import relation
from sqlkmeans.database.spark.views import Views
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, DataError, DefinitionError
from sqlkmeans.publication import Publication, Row

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@contextmanager
def open_labels(
    segmentation: Segmentation, database: Database, session: Any = None
) -> Iterator[Database]:
    """The database, with labels that are in Spark's catalog.

    Parameters
    ----------
    segmentation : Segmentation
    database : Database
    session : pyspark.sql.SparkSession, optional
        Without one, whatever is asked of the labels is refused.

    Raises
    ------
    DefinitionError
        If the database publishes labels itself.
    """
    if isinstance(database, RunsInside):
        raise DefinitionError(
            f"target {segmentation.target}: its three parts name a table of Spark's catalog, and "
            f"{database.safe_url} publishes labels itself; allowed: a target of two parts, or a "
            "DuckDB database for runs and models"
        )
    if session is None:
        yield database.with_labels(LakeLabels(database, None))
        return
    with told("Spark"), changed(session, SETTINGS):
        labels = LakeLabels(database, session)
        try:
            yield database.with_labels(labels)
        finally:
            labels.close()


class LakeLabels(LakeCatalog, Labels):
    """A table a run, and views of the newest.

    Parameters
    ----------
    database : Database
        Has the runs.
    session : pyspark.sql.SparkSession or None
    """

    def __init__(self, database: Database, session: SparkSession | None) -> None:
        super().__init__(database, session)
        self._store = database.store
        self._views = Views()
        #: What stands after FROM, and how many rows it has.
        self._staged, self._rows = "", 0

    def close(self) -> None:
        """Let go of what the session keeps for this."""
        self._views.close()

    def _keep(self, rows: DataFrame) -> str:
        """The name of a temporary view of rows, which are computed once."""
        return self._views.name(self._views.keep(rows))

    # On the way

    def stage(
        self,
        segmentation: Segmentation,
        run_id: int,
        keys: pa.Table,
        clusters: npt.NDArray[np.int32],
        distances: npt.NDArray[np.float64],
        empty: Empty = np.empty,
    ) -> None:
        tables = self._tables(segmentation)
        with told("staging labels"):
            types = self._key_types(segmentation, tables)
            typed = [
                f"CAST({backquote(key)} AS {kind}) AS {backquote(key)}"
                for key, kind in zip(segmentation.key, types)
            ]
            labels = keys.append_column("cluster", pa.array(clusters, pa.int32()))
            labels = labels.append_column("distance", pa.array(distances, pa.float64()))
            given = spark_types.for_spark(labels.columns, labels.column_names)
            rows = self._session.createDataFrame(given)
            self._staged = self._keep(rows.selectExpr(*typed, "cluster", "distance"))
        self._rows = len(clusters)

    def stage_query(
        self, segmentation: Segmentation, run_id: int, workspace: Workspace, query: str, rows: int
    ) -> None:
        with told("staging labels"):
            self._staged = self._keep(self._session.sql(query))
        self._rows = rows

    def published_keys(self, segmentation: Segmentation) -> pa.Table:
        tables = self._tables(segmentation)
        with told("looking for the published keys"):
            query = f"SELECT {tables.key_list} FROM {self._published(segmentation, tables)}"
            rows = self._catalog.published_runs(segmentation.name)[0]["rows"]
            return keys_of(self._session, query, segmentation.key, rows)

    def stage_unchanged(
        self,
        segmentation: Segmentation,
        run_id: int,
        segment_ids: Sequence[int],
        outlier_distances: Mapping[int, float],
        departed: pa.Table | None = None,
    ) -> list[StagedCluster]:
        tables = self._tables(segmentation)
        keys = ", ".join(f"label.{backquote(key)}" for key in segmentation.key)
        assert departed is not None, "Spark reads the source of labels in its catalog"
        with told("staging who stayed"):
            gone = self._keep(self._session.createDataFrame(departed))
            self._staged = self._keep(
                self._session.sql(
                    f"SELECT {tables.key_list}, cluster, distance FROM {self._staged} "
                    f"UNION ALL SELECT {keys}, "
                    f"{clusters_of('label.segment_id', segment_ids)}, label.distance "
                    f"FROM {self._published(segmentation, tables)} AS label "
                    f"LEFT ANTI JOIN {gone} AS gone ON {tables.same_key('label', 'gone')} "
                    f"LEFT ANTI JOIN {self._staged} "
                    f"AS staged ON {tables.same_key('label', 'staged')}"
                )
            )
            far = beyond("cluster", segment_ids, outlier_distances)
            rows = tables.rows(
                f"SELECT cluster, COUNT(*), SUM(distance * distance), COUNT_IF({far}) "
                f"FROM {self._staged} GROUP BY cluster"
            )
        clusters = [StagedCluster(*row) for row in rows]
        self._rows = sum(cluster.size for cluster in clusters)
        return clusters

    def overlap(self, segmentation: Segmentation, run_id: int) -> list[tuple[int, int, int]]:
        tables = self._tables(segmentation)
        with told("comparing with the published labels"):
            rows = tables.rows(
                "SELECT label.segment_id, staged.cluster, COUNT(*) FROM "
                f"{self._published(segmentation, tables)} AS label JOIN {self._staged} AS staged "
                f"ON {tables.same_key('label', 'staged')} GROUP BY ALL "
                f"HAVING COUNT(*) >= {segmentation.smallest_group} ORDER BY ALL"
            )
        return [(int(segment_id), int(cluster), int(n)) for segment_id, cluster, n in rows]

    # Publishing

    def publish(self, segmentation: Segmentation, publication: Publication) -> Counts:
        now = self._store.publication_time(segmentation.name)
        limits = publication.outlier_distances
        labels = (
            f"(SELECT {self._tables(segmentation).key_list}, "
            f"{segments_of('cluster', publication.segment_ids)} AS segment_id, distance, "
            f"{beyond('cluster', publication.segment_ids, limits)} AS is_outlier "
            f"FROM {self._staged})"
        )
        counts = self._write(
            segmentation, publication.run_id, labels, self._rows, now,
            publication.distance_tolerance, limits,
        )  # fmt: skip
        self._store.publish_elsewhere(segmentation, publication, counts, now)
        self._shown(segmentation, publication.run_id)
        return counts

    def _write(
        self, segmentation: Segmentation, run_id: int, labels: str, rows: int, now: datetime,
        tolerance: float = 0.0, limits: Mapping[int, float] | None = None,
    ) -> Counts:  # fmt: skip
        """Write a run's labels and what changed by them, where nobody sees them yet."""
        tables = self._tables(segmentation)
        with told("writing labels"):
            published = self._published(segmentation, tables)
            joined = self._keep(
                self._session.sql(
                    tables.joined(published, labels, run_id, now, tolerance, limits or {})
                )
            )
            ((labelled, changes, relabelled, *counted),) = tables.rows(
                f"SELECT COUNT(segment_id), COUNT_IF({RELABELLED}), "
                f"COUNT_IF({RELABELLED} AND segment_id IS NOT NULL), "
                f"COUNT_IF({PREVIOUS} IS NULL), COUNT_IF({PREVIOUS} <> segment_id), "
                f"COUNT_IF(segment_id IS NULL), COUNT_IF({CHANGED}) FROM {joined}"
            )
            _require(rows, labelled)
            counts = Counts(*counted)
            if not counts.written:
                return counts
            types = self._key_types(segmentation, tables)
            tables.create_labels(run_id, types, self._mark(run_id))
            tables.fill(run_id, joined, now)
            ((written, of_run),) = tables.rows(
                f"SELECT COUNT(*), COUNT_IF(run_id = {int(run_id)}) FROM {tables.labels_of(run_id)}"
            )
            _require(labelled, written)
            _require(relabelled, of_run)
            ((written,),) = tables.rows(
                f"SELECT COUNT(*) FROM {tables.changes} WHERE run_id = {int(run_id)}"
            )
            _require(changes, written)
        return counts

    def _shown(self, segmentation: Segmentation, run_id: int) -> None:
        """Replace the views of what is published, and drop what nobody reads any more."""
        tables = self._tables(segmentation)
        try:
            with told(f"target {segmentation.target}"):
                self._show(segmentation)
                self._drop_tables(segmentation, tables, self._published_ids(segmentation))
        except (DataError, DatabaseError) as error:
            raise DatabaseError(
                f"run {run_id} is published, and its views were not all replaced: {error}; the "
                "next run does it"
            ) from None

    def rollback(self, segmentation: Segmentation, run: Row, restored_run: Row) -> Counts:
        tables, restored = self._tables(segmentation), restored_run["run_id"]
        # The source may be gone, and is not asked for its keys.
        if problems := self._target_problems(segmentation):
            raise DataError(problems)
        run_id = self._store.start(segmentation, {**run, "restored_run_id": restored})
        try:
            self.prepare(segmentation, run_id)
            now = self._store.publication_time(segmentation.name)
            with told("looking for the labels"):
                ((held,),) = tables.rows(f"SELECT COUNT(*) FROM {tables.as_of(restored)}")
            if held != restored_run["rows"]:
                raise DataError(
                    f"it published {restored_run['rows']:,} labels and the history still holds "
                    f"{held:,} of them, so the run cannot come back"
                )
            counts = self._write(segmentation, run_id, tables.as_of(restored), held, now)
            registered = self._catalog.segmentation(segmentation.name) or {}
            publication = Publication(
                run_id=run_id, segment_ids=[], model_run_id=restored_run["model_run_id"], run={},
                tables={}, last_segment_id=registered["last_segment_id"], distance_tolerance=0.0,
            )  # fmt: skip
            self._store.publish_elsewhere(segmentation, publication, counts, now)
        except BaseException as error:
            self._store.fail(run_id, str(error) or type(error).__name__)
            raise
        self._shown(segmentation, run_id)
        return counts

    # Questions

    def segment_of(self, segmentation: Segmentation, customer: Sequence[str]) -> int | None:
        if not self._published_runs(segmentation):
            return None
        tables, literal = self._tables(segmentation), SparkDialect().literal
        same = " AND ".join(
            f"CAST({backquote(key)} AS string) = {literal(value)}"
            for key, value in zip(segmentation.key, customer)
        )
        with told("looking for a label"):
            rows = tables.rows(
                f"SELECT segment_id FROM {self._published(segmentation, tables)} WHERE {same}"
            )
        return int(rows[0][0]) if rows else None

    def farthest(
        self, segmentation: Segmentation, at_most: int
    ) -> list[tuple[tuple[Any, ...], int, float]]:
        if not self._published_runs(segmentation):
            return []
        tables = self._tables(segmentation)
        with told("looking for outliers"):
            rows = tables.rows(
                f"SELECT {tables.key_list}, segment_id, distance "
                f"FROM {self._published(segmentation, tables)} WHERE is_outlier "
                f"ORDER BY distance DESC, {tables.key_list} LIMIT {int(at_most)}"
            )
        return [(row[:-2], int(row[-2]), float(row[-1])) for row in rows]

    def sample(self, segmentation: Segmentation, columns: Sequence[str], at_most: int) -> pa.Table:
        tables, dialect = self._tables(segmentation), SparkDialect()
        described = self._sources(segmentation).describe(segmentation.source)
        types = {column.name: column for column in described}
        kinds = segmentation.feature_types
        values = ", ".join(
            dialect.feature(types[name], kinds.get(name, "number"), f"source.{backquote(name)}")
            + f" AS {backquote(name)}"
            for name in columns
        )
        # A feature may have the name of a label's column.
        with told("drawing customers", of_source=True):
            return self._session.sql(
                f"SELECT {values}, label.sqlkmeans_segment AS segment_id "
                f"FROM (SELECT * FROM {relation(segmentation.source)}) AS source JOIN "
                f"(SELECT {tables.key_list}, segment_id AS sqlkmeans_segment "
                f"FROM {self._published(segmentation, tables)}) AS label "
                f"USING ({tables.key_list}) "
                f"ORDER BY XXHASH64({tables.key_list}), {tables.key_list} LIMIT {int(at_most)}"
            ).toArrow()

    def movement(
        self, segmentation: Segmentation, from_run_id: int, to_run_id: int
    ) -> list[tuple[int | None, int | None, int]]:
        tables = self._tables(segmentation)
        after = "MAX_BY(segment_id, run_id) FILTER (WHERE run_id <= {})"
        with told("looking for who moved", of_source=True):
            rows = tables.rows(
                "SELECT from_segment_id, to_segment_id, COUNT(*) FROM ("
                f"SELECT {after.format(int(from_run_id))} AS from_segment_id, "
                f"{after.format(int(to_run_id))} AS to_segment_id "
                f"FROM {tables.changes} GROUP BY {tables.key_list}) AS customer "
                "WHERE from_segment_id IS NOT NULL OR to_segment_id IS NOT NULL GROUP BY ALL "
                "ORDER BY from_segment_id NULLS FIRST, to_segment_id NULLS LAST"
            )
        return [(start, end, int(customers)) for start, end, customers in rows]


def _require(sent: int, arrived: int) -> None:
    if sent != arrived:
        raise DatabaseError(
            f"{sent:,} labels were to be written and {arrived:,} are there; nothing was published"
        )
