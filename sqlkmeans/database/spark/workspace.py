"""Work on rows in Spark: temporary views that are kept, and queries of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.labels import Labels
from sqlkmeans.database.source import Column
from sqlkmeans.database.spark.dialect import SparkDialect, backquote
from sqlkmeans.database.spark.label_files import LabelFiles
from sqlkmeans.database.spark.passes import nearest_means, on_executors
from sqlkmeans.database.spark.session import told, told_nothing
from sqlkmeans.database.spark.types import as_before, widened
from sqlkmeans.database.spark.views import Views
from sqlkmeans.database.workspace import Workspace
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Labels that come to this process at a time, about so many.
PART_ROWS = 2_000_000
#: Centroids of so many numbers make a pass faster by NumPy than by SQL.
WIDE = 128

_KEEP = re.compile(r"CACHE TABLE (\w+) AS\n(.*)", re.DOTALL)
_DELETE = re.compile(r"DELETE FROM (\w+) WHERE (.*)", re.DOTALL)
_DROP = re.compile(r"DROP TABLE IF EXISTS (\w+)")


class SparkWorkspace(Workspace):
    """Temporary views of a session, under names of its own.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    source : str
        What stands after FROM.
    columns : mapping of str to Column
    keep : {"cache", "checkpoint"}
        How the rows are kept: so that a part which is lost is read from the source again, or not.
    """

    def __init__(
        self, session: SparkSession, source: str, columns: Mapping[str, Column], keep: str
    ) -> None:
        self.dialect = SparkDialect(f"sqlkmeans_{uuid4().hex[:8]}")
        self.source = source
        self._session = session
        self._columns = columns
        self._keep = keep
        self._kept: dict[str, DataFrame] = {}
        self._views = Views()
        self._files: LabelFiles | None = None
        #: Not known to be missing on the executors.
        self._with_numpy = True

    def key(self, name: str) -> tuple[str, str]:
        return backquote(name), self._columns[name].type

    def value(self, name: str, kind: str) -> tuple[str, str]:
        column, value = self._columns[name], backquote(name)
        if kind == "category":
            return self.dialect.category(column, value), "string"
        if kind == "date":
            return self.dialect.day(column, value), "date"
        return number(self.dialect.number(column, value)), self.dialect.float_type

    def execute(self, statement: str) -> None:
        if found := _KEEP.fullmatch(statement):
            name, query = found.groups()
            self._make(name, query, first=not self._kept)
        elif found := _DELETE.fullmatch(statement):
            name, condition = found.groups()
            before = self._views.name(self._kept[name])
            self._make(name, f"SELECT * FROM {before} WHERE NOT ({condition})")
        elif found := _DROP.fullmatch(statement):
            self._drop(found[1])
        else:
            raise ValueError(f"no statement of a Spark workspace: {statement}")

    def _make(self, name: str, query: str, *, first: bool = False) -> None:
        """Keep the rows of a query as a view, in place of the one of that name."""
        with told("source" if first else "training in Spark", of_source=first):
            rows = self._session.sql(query)
            # What is taken from the source is of one moment only as long as nothing is lost of it.
            if first and self._keep == "checkpoint":
                rows = rows.checkpoint()
            else:
                rows = rows.persist()
                rows.count()
            before = self._kept.get(name)
            self._views.name(rows, name)
            self._kept[name] = rows
            if before is not None:
                before.unpersist()

    def _drop(self, name: str) -> None:
        rows = self._kept.pop(name, None)
        if rows is not None:
            rows.unpersist()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        found = self.table(query)
        return list(zip(*(column.to_pylist() for column in found.columns)))

    def matrix(self, query: str) -> npt.NDArray[np.float64]:
        columns = [column.to_numpy() for column in self.table(query).columns]
        return np.column_stack(columns).astype(np.float64, copy=False)

    def nearest_means(
        self, query: str, centroids: npt.NDArray[np.float64], *, weighted: bool
    ) -> list[tuple[Any, ...]] | None:
        if centroids.size < WIDE or not self._with_numpy:
            return None
        with told("training in Spark"):
            found = nearest_means(self._session.sql(query), centroids, weighted=weighted)
        self._with_numpy = found is not None
        return found

    def table(self, query: str) -> pa.Table:
        """The rows of a query, here."""
        with told("training in Spark"):
            return self._session.sql(query).toArrow()

    def stage(
        self, labels: Labels, segmentation: Segmentation, run_id: int, query: str, rows: int
    ) -> None:
        """By way of this process, which holds a part of them at a time; others are in files.

        Where they are more than one part, from the executors, if the database takes them there.
        Of a lake table, they stay in Spark.
        """
        if segmentation.lake_target:
            super().stage(labels, segmentation, run_id, query, rows)
            return
        names = list(segmentation.key)
        listed = ", ".join(map(backquote, names))
        self._require_room(labels.key_lengths(segmentation, run_id), query)
        if rows > PART_ROWS:
            selected = f"SELECT {listed}, cluster, distance FROM ({query}) AS l"
            if self._stage_parts(labels, segmentation, run_id, selected, rows):
                return
        self._files = files = LabelFiles()
        parts = -(-rows // PART_ROWS)
        for part in range(parts):
            where = f"\nWHERE PMOD(XXHASH64({listed}), {parts}) = {part}" if parts > 1 else ""
            found = self.table(f"SELECT * FROM ({query}) AS l{where}\nORDER BY {listed}")
            keys = pa.table([self.key_of(name, found[name]) for name in names], names)
            clusters = found["cluster"].to_numpy().astype(np.int32, copy=False)
            files.add(keys, clusters, found["distance"].to_numpy())
        _require_all(rows, files.rows)
        labels.stage(segmentation, run_id, *files.read(), files.empty)

    def _require_room(self, lengths: Mapping[str, int], query: str) -> None:
        """Refuse keys that are longer than what the database makes for them."""
        bounds = {name: most for name, most in lengths.items() if name in self._columns}
        if not bounds:
            return
        found = self.rows(f"SELECT {', '.join(map(self._longest, bounds))} FROM ({query}) AS l")[0]
        problems = [
            f"key {name}: {longest:,} long; the segment table takes {most:,}; "
            "give a shorter one in a SELECT, a hash of it for example"
            for (name, most), longest in zip(bounds.items(), found)
            if longest > most
        ]
        if problems:
            raise DataError(problems)

    def _longest(self, name: str) -> str:
        key = backquote(name)
        is_text = self._columns[name].kind == "text"
        return f"MAX({self.dialect.length(key) if is_text else f'OCTET_LENGTH({key})'})"

    def _stage_parts(
        self, labels: Labels, segmentation: Segmentation, run_id: int, query: str, rows: int
    ) -> bool:
        """Let tasks write labels, and take what those wrote whose answer Spark returned.

        A task that died, or whose executor did, is made again, and what it left does not count.
        """
        write = labels.part_writer(segmentation, run_id)
        if write is None:
            return False
        with told("staging labels"):
            tasks = self._session.sql(query).coalesce(segmentation.spark.connections)
            written = on_executors(tasks, write, "attempt bigint, rows bigint")
        if written is None:
            return False
        _require_all(rows, sum(written["rows"].to_pylist()))
        labels.accept_parts(segmentation, run_id, written["attempt"].to_pylist(), rows)
        return True

    def key_of(self, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        """A key column as the database takes it."""
        return values.cast(widened(values.type))

    def changed_since(self, rows: int) -> str | None:
        if self._keep == "checkpoint":
            return None
        try:
            with told("the source could not be counted again", of_source=True):
                now = self._session.sql(f"SELECT 1 FROM {self.source}").count()
        except DataError as error:
            return str(error)
        if now == rows:
            return None
        return (
            f"the source had {rows:,} rows when they were read and has {now:,} now; the labels are "
            "of the rows as they were read, but for a part that was lost and read again: "
            '[spark] keep = "checkpoint" reads none again'
        )

    def close(self) -> None:
        """Let go of what was kept; the session lives on."""
        with told_nothing():
            for name in list(self._kept):
                self._drop(name)
        self._views.close()
        if self._files is not None:
            self._files.close()


class CarriedRows(SparkWorkspace):
    """Rows of a database: ``k1, k2, …``, ``x1, x2, …``, ``w``, as :func:`~.types.for_spark` has
    them.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    segmentation : Segmentation
    given : pyspark.sql.DataFrame
        Features as :class:`~sqlkmeans.database.source.Batch` has them.
    key_types : list of pyarrow.DataType
        As the database gave the keys, and takes them.
    keep : {"cache", "checkpoint"}
    checkpointed : pyspark.sql.DataFrame, optional
        What a checkpoint keeps of them, until they are closed.
    """

    def __init__(
        self, session: SparkSession, segmentation: Segmentation, given: DataFrame,
        key_types: list[pa.DataType], keep: str, checkpointed: DataFrame | None = None,
    ) -> None:  # fmt: skip
        self._checkpointed = checkpointed
        super().__init__(session, "", {}, keep)
        self.source = self.dialect.temporary("given")
        self._key_types = dict(zip(segmentation.key, key_types))
        self._places = {name: f"k{n}" for n, name in enumerate(segmentation.key, start=1)}
        features = [*segmentation.columns, *segmentation.profile]
        self._places |= {name: f"x{n}" for n, name in enumerate(features, start=1)}
        if segmentation.sample_weight is not None:
            self._places[segmentation.sample_weight] = "w"
        given.createOrReplaceTempView(self.source)

    def key(self, name: str) -> tuple[str, str]:
        return self._places[name], "string"

    def value(self, name: str, kind: str) -> tuple[str, str]:
        place = self._places[name]
        if kind == "category":
            return place, "string"
        if kind == "date":
            return f"DATE_ADD(DATE '1970-01-01', CAST({place} AS int))", "date"
        return number(place), self.dialect.float_type

    def key_of(self, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
        return as_before(values, self._key_types[name])

    def changed_since(self, rows: int) -> str | None:
        return None  # Its rows are of one moment, whatever is lost.

    def close(self) -> None:
        super().close()
        with told_nothing():
            self._session.catalog.dropTempView(self.source)
        if self._checkpointed is not None:
            forget(self._checkpointed)


def forget(checkpointed: DataFrame) -> None:
    """Let go of what a checkpoint keeps; Spark itself waits until Java collects garbage."""
    with told_nothing():
        checkpointed._jdf.queryExecution().logical().rdd().unpersist(False)


def number(value: str) -> str:
    """NULL for NaN, which stands for what is missing."""
    return f"CASE WHEN NOT ISNAN({value}) THEN {value} END"


def _require_all(kept: int, arrived: int) -> None:
    if kept != arrived:
        raise DataError(
            f"source: changed while it was read; {kept:,} rows were kept and {arrived:,} have a "
            "label, because a part of them was lost and read again; nothing was published, run it "
            'again, with [spark] keep = "checkpoint"'
        )
