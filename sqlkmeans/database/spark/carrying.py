"""Rows of a database on their way to Spark: read by its executors, or by way of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sqlkmeans.database.base import Column, Database, ReadTogether
from sqlkmeans.database.source import NOT_BEGUN, TogetherReader
from sqlkmeans.database.spark.session import PYTHON, changed, first_line, told
from sqlkmeans.database.spark.types import for_spark
from sqlkmeans.database.spark.workspace import CarriedRows, forget
from sqlkmeans.definition import Segmentation
from sqlkmeans.errors import DatabaseError, NoRows
from sqlkmeans.words import without_passwords

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: How often executors begin to read a source, if what comes is of several moments.
ATTEMPTS = 3
#: What an error says where executors cannot begin: they lack packages, or Spark has no such stage.
SIGNS = (NOT_BEGUN, "ModuleNotFoundError", "Barrier execution mode")
#: What tells moments apart, and how many rows there were.
MOMENT = ("moment", "counted")
#: A time without a zone stays one.
TIMES = {"spark.sql.timestampType": "TIMESTAMP_NTZ"}


class _NotBegun(Exception):
    """Executors cannot read the source, and have not read anything of it."""


def rows_of_database(
    session: SparkSession,
    database: Database,
    segmentation: Segmentation,
    described: Mapping[str, Column],
) -> CarriedRows:
    """Rows of a table, view or SELECT of a database, of one moment.

    Parameters
    ----------
    session : pyspark.sql.SparkSession
    database : Database
    segmentation : Segmentation
    described : mapping of str to Column

    Raises
    ------
    DataError
        If there are none, or they cannot be read.
    DatabaseError
    """
    profile = {name: str(described[name].profile_type) for name in segmentation.profile}
    types = {name: "number" if kind == "boolean" else kind for name, kind in profile.items()}
    features = [*segmentation.columns, *segmentation.profile]
    keep, notes = segmentation.spark.keep, []
    if isinstance(database, ReadTogether):
        reader = database.together_reader(segmentation, features, types)
        if reader is not None:
            try:
                given = read_together(session, reader, segmentation)
                rows = given.drop(*MOMENT)
                return CarriedRows(session, segmentation, rows, reader.keys, "cache", given)
            except _NotBegun as error:
                notes = [
                    f"source {segmentation.source}: Spark's executors could not read it, so its "
                    f"rows went by way of this process: {error}"
                ]
    with database.open_source(segmentation, features, types=types) as source:
        batches = list(source.batches)
    if not batches:
        raise NoRows("the source has no rows; nothing was changed")
    keys = pa.Table.from_batches([batch.keys for batch in batches])
    columns = [*keys.columns, *pa.Table.from_batches([b.features for b in batches]).columns]
    if batches[0].sample_weight is not None:
        columns.append(pa.chunked_array([batch.sample_weight for batch in batches]))
    rows = for_spark(columns, _names(keys.num_columns, len(features), len(columns)))
    with told("handing the rows to Spark"), changed(session, TIMES):
        given = session.createDataFrame(rows)
    key_types = [field.type for field in keys.schema]
    workspace = CarriedRows(session, segmentation, given, key_types, keep)
    workspace.notes = notes
    return workspace


def _names(n_keys: int, n_features: int, n_columns: int) -> list[str]:
    names = [f"k{n}" for n in range(1, n_keys + 1)] + [f"x{n}" for n in range(1, n_features + 1)]
    return [*names, "w"][:n_columns]


def read_together(
    session: SparkSession, reader: TogetherReader, segmentation: Segmentation
) -> DataFrame:
    """Rows that executors read at once, and that nobody reads again.

    If a task dies, Spark makes all of them again, at another moment. It does so too if later it
    misses some of what they have read, and then there are rows of two moments: all are looked at.
    Those that were good are kept, and Spark forgets where they came from.

    Returns
    -------
    pyspark.sql.DataFrame
        A checkpoint, with ``MOMENT`` behind the other columns.
    """
    from py4j.protocol import Py4JError
    from pyspark import StorageLevel
    from pyspark.errors import PySparkException

    slots = _slots(session)
    if not slots:
        raise _NotBegun("Spark does not tell how many tasks it can run at once")
    tasks = min(segmentation.spark.connections, slots)
    kinds = [*reader.keys, *reader.features, *([pa.float64()] if reader.weighted else [])]
    names = _names(len(reader.keys), len(reader.features), len(kinds))
    kinds, names = [*kinds, pa.int64(), pa.int64()], [*names, *MOMENT]
    empty = for_spark([pa.chunked_array([], kind) for kind in kinds], names)
    with told("handing the rows to Spark"), changed(session, TIMES):
        schema = session.createDataFrame(empty).schema
    task = task_of(reader.read, tasks, empty.schema)
    what = f"source {segmentation.source}: reading stopped"
    for _ in range(ATTEMPTS):
        try:
            rows = session.range(0, tasks, 1, tasks).mapInArrow(task, schema, barrier=True)
            # Behind a shuffle: else all that comes would be in stages like this one, which ask for
            # as many slots and do not outlive an executor. And it may be in more parts then.
            rows = rows.repartition(*names[: len(reader.keys)])
            if segmentation.spark.keep == "checkpoint":
                rows = rows.checkpoint()
            else:
                rows = rows.localCheckpoint(storageLevel=StorageLevel.DISK_ONLY_2)
            moments = rows.groupBy(*MOMENT).count().withColumnRenamed("count", "came").collect()
        except (PySparkException, Py4JError) as error:
            text = str(error)
            if any(sign in text for sign in SIGNS):
                raise _NotBegun(without_passwords(first_line(text))) from None
            with told(what, of_source=PYTHON in text):
                raise
        if len(moments) == 1 and moments[0].counted == moments[0].came:
            return rows
        forget(rows)
        if not moments:
            raise _NotBegun("no rows came")
        if len(moments) == 1:
            _, counted, came = moments[0]
            raise DatabaseError(f"{what}: {counted:,} rows were counted and {came:,} came")
    raise DatabaseError(
        f"{what}: executors died, and rows came of several moments, in {ATTEMPTS} attempts; "
        "nothing was published"
    )


def task_of(
    read: Callable[..., Iterator[pa.RecordBatch]], tasks: int, schema: pa.Schema
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What each task calls; it travels by value.

    Parameters
    ----------
    read : callable
        As :class:`TogetherReader` has it.
    tasks : int
    schema : pyarrow.Schema
        As Spark takes what it gives.
    """

    def task(_: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyspark import BarrierTaskContext

        context = BarrierTaskContext.get()
        for batch in read(context.partitionId(), tasks, context.allGather):
            columns = [values.cast(kind) for values, kind in zip(batch.columns, schema.types)]
            yield pa.record_batch(columns, schema=schema)

    return task


def _slots(session: Any) -> int:
    """How many tasks Spark can run at once; 0 where it does not tell, as over Connect.

    It waits ten minutes for more before it refuses them, and ``defaultParallelism`` may be more.
    """
    from py4j.protocol import Py4JError

    context = getattr(session, "_sc", None)
    if context is None:
        return 0
    try:
        of_java = context._jsc.sc()
        profile = of_java.resourceProfileManager().defaultResourceProfile()
        return int(of_java.maxNumConcurrentTasks(profile))
    except Py4JError:
        return 0
