"""Reading from SQL Server: what a source looks like, and its rows in bulk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sqlkmeans.database.source import Batch, split_batch
from sqlkmeans.database.sqlserver.dialect import bracket
from sqlkmeans.database.sqlserver.session import Session
from sqlkmeans.database.sqlserver.types import (
    SqlColumn,
    beside,
    feature_arrow,
    relation,
)
from sqlkmeans.definition import Segmentation

LabelBatch = tuple[
    pa.RecordBatch, npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.bool_]
]

#: Rows of an Arrow batch: at 65,536 a copy into the matrix costs a tenth of what it does at 8,192.
BATCH_ROWS = 65_536
#: Rows that pyodbc fetches at a time, a list of Python objects each: few enough to stay in the
#: processor's cache until they are columns. At 16,384 the client works twice as long.
FETCH_ROWS = 512

# The columns of sp_describe_first_result_set that count, by position.
_NAME, _TYPE, _MAX_LENGTH, _PRECISION, _SCALE, _COLLATION, _USER_TYPE = 2, 5, 6, 7, 8, 9, 13


def describe(session: Session, source: str) -> list[SqlColumn]:
    """Columns of a table, view or SELECT, without running it."""
    rows = session.guarded(
        "EXECUTE sys.sp_describe_first_result_set @tsql = ?;",
        [f"SELECT * FROM {relation(source)}"],
    )
    return [_column(row) for row in rows]


def _column(row: Sequence[object]) -> SqlColumn:
    # A CLR type such as geography has no system type name.
    type_name = str(row[_TYPE] or row[_USER_TYPE] or "unknown")
    base, _, length = type_name.partition("(")
    sizes = (row[_MAX_LENGTH], row[_PRECISION], row[_SCALE])
    max_length, precision, scale = (int(str(size or 0)) for size in sizes)
    if length.startswith("max"):
        max_length = -1
    collation = str(row[_COLLATION]) if row[_COLLATION] else None
    return SqlColumn(str(row[_NAME]), base.lower(), max_length, precision, scale, collation)


def same_customer(alias: str, keys: Sequence[SqlColumn]) -> str:
    """The condition that finds a customer by the key's values as text, one parameter each."""
    return " AND ".join(f"{alias}.{bracket(key.name)} = {key.from_text}" for key in keys)


def read_query(
    source: str,
    keys: Sequence[SqlColumn],
    features: Sequence[tuple[SqlColumn, str]],
    weight: SqlColumn | None = None,
    *,
    condition: str | None = None,
) -> str:
    """The SELECT that reads keys, features (each with its type) and a weight in key order.

    Of all customers, or of those for whom a condition on ``source`` holds.
    """
    columns = ", ".join(
        [key.read_expression for key in keys]
        + [column.as_feature(feature_type) for column, feature_type in features]
        + ([] if weight is None else [weight.as_feature()])
    )
    where = "" if condition is None else f" WHERE {condition}"
    return f"SELECT {columns} FROM {relation(source)}{where} ORDER BY {key_order(keys)}"


def key_order(keys: Sequence[SqlColumn]) -> str:
    """The key as ORDER BY takes it, of a relation named ``source``."""
    # By the columns themselves: the text of a key that travels as text sorts otherwise.
    return ", ".join(f"source.{bracket(key.name)}" for key in keys)


def read_keys(
    session: Session, segmentation: Segmentation, keys: Sequence[SqlColumn]
) -> Iterator[pa.RecordBatch]:
    """Published keys, in no order."""
    listed = ", ".join(key.read_expression for key in keys)
    query = f"SELECT {listed} FROM {beside(segmentation.target, '')} AS source"
    return (batch.keys for batch in read_batches(session, query, keys, []))


def read_batches(
    session: Session,
    query: str,
    keys: Sequence[SqlColumn],
    features: Sequence[tuple[SqlColumn, str]],
    weight: SqlColumn | None = None,
    parameters: Sequence[Any] = (),
) -> Generator[Batch, None, None]:
    """Rows of :func:`read_query` in its order, as the driver gives them fastest."""
    cursor = session.native.cursor()
    try:
        cursor.execute(query, *([tuple(parameters)] if parameters else []))
        if session.driver == "mssqlpython":
            reader = cursor.arrow_reader(batch_size=BATCH_ROWS)
            yield from (split_batch(batch, len(keys), len(features)) for batch in reader)
        else:
            columns = [(key.name, key.arrow) for key in keys]
            columns += [(column.name, feature_arrow(kind)) for column, kind in features]
            if weight is not None:
                columns.append((weight.name, pa.float64()))
            for batch in _fetched(cursor, pa.schema(columns)):
                yield split_batch(batch, len(keys), len(features))
    finally:
        cursor.close()


def _fetched(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """What a cursor of pyodbc fetches, as batches of columns."""
    while parts := list(islice(_parts(cursor, schema), BATCH_ROWS // FETCH_ROWS)):
        (batch,) = pa.Table.from_batches(parts).combine_chunks().to_batches()
        yield batch


def _parts(cursor: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while rows := cursor.fetchmany(FETCH_ROWS):
        arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows), schema.types)]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def read_labels(
    session: Session, segmentation: Segmentation, described: Sequence[SqlColumn]
) -> Iterator[LabelBatch]:
    """Published labels in key order: keys, segment ids, distances, who is an outlier."""
    target = beside(segmentation.target, "")
    columns = {column.name: column for column in described}
    keys = [columns[name] for name in segmentation.key]
    labels = [(columns[name], "number") for name in ("segment_id", "distance", "is_outlier")]
    query = (
        f"SELECT {', '.join(key.read_expression for key in keys)}, segment_id, distance, "
        # As a number: an Arrow reader has a bit as a boolean.
        "CAST(CAST(is_outlier AS int) AS float) AS is_outlier "
        f"FROM {target} AS source ORDER BY {key_order(keys)}"
    )
    for batch in read_batches(session, query, keys, labels):
        segment_ids, distances, outliers = (
            column.to_numpy(zero_copy_only=False) for column in batch.features.columns
        )
        yield batch.keys, segment_ids.astype(np.int32), distances, outliers.astype(np.bool_)
